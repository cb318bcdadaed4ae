"""A real Chromium on the real application: uvicorn in this loop, on a port of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.async_api import Browser, Page, Response, async_playwright

from tests.builders_portal import PASSWORD

CHROMIUM = Path("/usr/bin/chromium")
HAS_CHROMIUM = CHROMIUM.exists()
WIDTHS = (1280, 390)
HEIGHTS = {1280: 900, 390: 844}


@dataclass(slots=True)
class Visitor:
    """A browser tab that writes down everything a page must not do."""

    page: Page
    url: str
    faults: list[str] = field(default_factory=list)

    async def sign_in(self, email: str) -> None:
        """Fill in the form as a person would."""
        await self.page.goto(f"{self.url}/sign-in")
        await self.page.get_by_label("E-mail").fill(email)
        await self.page.get_by_label("Password").fill(PASSWORD)
        await self.page.get_by_role("button", name="Sign in").click()
        await self.page.wait_for_url(lambda url: "sign-in" not in url)

    async def see(self, path: str) -> Response:
        """Open a page, let it settle, and check what holds on every page."""
        answer = await self.page.goto(f"{self.url}{path}")
        assert answer is not None
        await self.page.wait_for_load_state("load")
        await self.check()
        return answer

    async def check(self) -> None:
        """No errors in the console, no violations of the CSP, nothing to scroll sideways."""
        assert self.faults == []
        clipped = await self.page.evaluate(
            "[...document.querySelectorAll('main *')].filter(e => !e.closest('.hidden, thead, .chart, .pill')"
            " && getComputedStyle(e).overflowX !== 'visible' && e.scrollWidth > e.clientWidth + 1)"
            ".map(e => e.outerHTML.slice(0, 120))"
        )
        assert clipped == []
        wide = await self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{wide} px to scroll sideways at {self.page.url}"


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    """Chromium as Debian ships it."""
    if not HAS_CHROMIUM:
        pytest.skip("no Chromium: apt-get install -y chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """Serve the application on loopback and yield its address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(20):
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.02)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 20)


@asynccontextmanager
async def visiting(browser: Browser, url: str, width: int) -> AsyncIterator[Visitor]:
    """Open a tab of this width."""
    context = await browser.new_context(viewport={"width": width, "height": HEIGHTS[width]}, accept_downloads=True)
    page = await context.new_page()
    page.set_default_timeout(15_000)
    visitor = Visitor(page, url)
    page.on("pageerror", lambda error: visitor.faults.append(f"error: {error}"))
    page.on("console", _listener(visitor))
    await page.add_init_script(
        "document.addEventListener('securitypolicyviolation',"
        " e => console.error('CSP ' + e.violatedDirective + ' ' + e.blockedURI))"
    )
    try:
        yield visitor
    finally:
        await context.close()


def _listener(visitor: Visitor) -> Callable[..., None]:
    def heard(message: object) -> None:
        if getattr(message, "type", "") in ("error", "warning"):
            visitor.faults.append(f"{getattr(message, 'type', '')}: {getattr(message, 'text', '')}")

    return heard
