"""The topics as data, read anew when their file changed: a new agency needs no restart."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from broker.core.errors import Permanent
from broker.core.identity import AgencyId
from broker.core.reasons import Reason
from broker.core.topics import parse_topics
from broker.edge import telemetry
from broker.edge.key_files import read_file


class TopicFile(Mapping[AgencyId, str]):
    """The name of the topic of each recipient that has one, as the file says now.

    A file that cannot be used leaves what was read before in force, and is reported once.

    Raises:
        Permanent: when made: the file cannot be read or says something that cannot be used.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen = self._stamp()
        self._names = topic_names(file)

    def __getitem__(self, agency: AgencyId) -> str:
        """Return the topic of ``agency``."""
        return self._current()[agency]

    def __iter__(self) -> Iterator[AgencyId]:
        """Go through the agencies."""
        return iter(self._current())

    def __len__(self) -> int:
        """Return how many agencies have one."""
        return len(self._current())

    def _current(self) -> Mapping[AgencyId, str]:
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            try:
                self._names = topic_names(self._file)
            except Permanent as error:
                telemetry.log_error(telemetry.TOPICS_REJECTED, error)
            else:
                telemetry.log(telemetry.TOPICS_RELOADED, found=len(self._names))
        return self._names

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size


def topic_names(file: Path) -> Mapping[AgencyId, str]:
    """Return the topic of each recipient that has one.

    Raises:
        Permanent: the file cannot be read or says something that cannot be used.
    """
    try:
        topics = parse_topics(read_file(file).decode("utf-8"))
    except ValueError as error:
        raise Permanent(Reason.INTERNAL, f"{file} cannot be used: {error}") from error
    return {agency: topic.name for agency, topic in topics.topics.items()}
