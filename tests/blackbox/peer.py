"""Another program in its own environment: started, told what to do and heard, by lines of JSON."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.blackbox.environments import environment

PATIENCE_S = 45.0
HERE = Path(__file__).parent


@dataclass(slots=True)
class Peer:
    """A running peer.

    Attributes:
        said: what it said so far, in order; every line has at least `what`.
    """

    process: subprocess.Popen[str]
    log: Path
    said: list[dict[str, Any]] = field(default_factory=list)
    _news: threading.Condition = field(default_factory=threading.Condition)

    def tell(self, **command: Any) -> None:
        """Give it a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def ask(self, what: str, **arguments: Any) -> Any:
        """Give it a command, wait for its answer, and return that (`result`)."""
        number = len(self.said)
        self.tell(do=what, **arguments)
        return self.hear(what, since=number)["result"]

    def hear(
        self, what: str, *, since: int = 0, when: Callable[[dict[str, Any]], bool] = lambda _: True, **facts: Any
    ) -> dict[str, Any]:
        """Wait until it has said something of a kind with these facts, and return the first such line."""

        def fits(line: dict[str, Any]) -> bool:
            return line["what"] == what and facts.items() <= line.items() and when(line)

        deadline_s = time.monotonic() + PATIENCE_S
        with self._news:
            while True:
                found = next((line for line in self.said[since:] if fits(line)), None)
                if found is not None:
                    return found
                ended = self.process.poll() is not None
                left_s = deadline_s - time.monotonic()
                if ended or left_s <= 0:
                    raise AssertionError(self._story(f"{what} {facts}", "it ended" if ended else "it never came"))
                self._news.wait(min(left_s, 0.5))

    def all(self, what: str) -> list[dict[str, Any]]:
        """Everything of a kind it has said."""
        with self._news:
            return [line for line in self.said if line["what"] == what]

    def _story(self, wanted: str, why: str) -> str:
        lines = "\n".join(json.dumps(line)[:400] for line in self.said[-12:])
        return f"waited for {wanted}, {why}; it said:\n{lines}\nand wrote:\n{self.log.read_text()[-3000:]}"

    def _listen(self, output: IO[str]) -> None:
        for text in output:
            try:
                line = json.loads(text)
            except ValueError:
                continue  # libraries print banners
            if isinstance(line, dict) and "what" in line:
                with self._news:
                    self.said.append(line)
                    self._news.notify_all()


@contextmanager
def running_peer(name: str, script: str, log: Path, /, **arguments: Any) -> Iterator[Peer]:
    """`peers/<script>.py` in the environment of `name`, with its arguments; ended with the block.

    Raises:
        Unavailable: there is no such environment here.
    """
    python = environment(name)
    with log.open("w") as errors:
        process = subprocess.Popen(
            [python, HERE / "peers" / f"{script}.py", json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=log.parent,
        )
    assert process.stdout is not None
    peer = Peer(process, log)
    listening = threading.Thread(target=peer._listen, args=(process.stdout,), daemon=True)
    listening.start()
    try:
        yield peer
    finally:
        process.kill()
        process.wait(10)
        listening.join(10)
        process.stdout.close()
        if process.stdin is not None:
            process.stdin.close()
