"""`--parity-report`, in the process that gathers what all the others ran."""

from __future__ import annotations

import pytest

from parity.errors import ParityError
from parity.pytest_plugin.session import Session


class Reporting:
    """Hooks of pytest that fill one `Session`.

    Args:
        gathered: what is filled.
    """

    def __init__(self, gathered: Session) -> None:
        self.gathered = gathered
        self._problem = ""
        self._written = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Make the folder.

        Raises:
            UsageError: it cannot be written to, or holds something else.
        """
        if session.config.option.collectonly:
            return
        try:
            self.gathered.prepare()
        except ParityError as error:
            raise pytest.UsageError(f"--parity-report: {error}") from error

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Tests are about to run: the report of an earlier session makes room."""
        option = session.config.option
        if not option.collectonly and (not session.testsfailed or option.continue_on_collection_errors):
            self.gathered.begin()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a test compared."""
        self.gathered.add(report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the index; a session without one is no success."""
        if not self.gathered.begun:
            return
        try:
            self.gathered.write()
            self._written = True
        except ParityError as error:
            self._problem = str(error)
            session.exitstatus = session.exitstatus or pytest.ExitCode.INTERNAL_ERROR

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where the index is."""
        if self._problem:
            terminalreporter.write_sep("-", "parity report not written", red=True)
            terminalreporter.write_line(self._problem)
        elif self._written:
            terminalreporter.write_sep("-", f"parity report: {self.gathered.index}")
            terminalreporter.write_line(self.gathered.words())


__all__ = ["Reporting"]
