"""Our OpenADR 3 VTN beside the portal: each answers in its own way, whatever is asked of it."""

from pathlib import Path

import httpx

from tests.builders_vtn3 import NEW, OLD, running_vtn
from tests.clock import FixedClock
from vpp.config import Settings
from vpp.portal import create_app


async def test_the_vtn_is_served_below_its_paths_and_the_pages_everywhere_else(
    module_database_url: str, clock: FixedClock, tmp_path: Path
) -> None:
    async with running_vtn(module_database_url, clock) as vtn:
        settings = Settings(var_dir=tmp_path, database_url=module_database_url)
        app = create_app(vtn.store, clock, settings, {}, mounts=vtn.versions)
        bl = {"authorization": "Bearer bl"}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="https://vpp.example") as http:
            long = await http.post(f"{NEW}/programs", headers=bl, content=b"x" * 6_000_000)
            none = await http.get(f"{OLD}/nothing", headers=bl)
            made = await http.post(f"{NEW}/programs", headers=bl, json={"programName": "p"})
            api = await http.get("/api/v1/openapi.json")
        for answer, status in ((long, 400), (none, 404)):
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
        assert none.headers["x-content-type-options"] == "nosniff"
        assert made.status_code == 201
        assert long.json()["title"] == "Content Too Large"
        assert api.json()["info"]["title"] == "Virtual power plant aggregator"
