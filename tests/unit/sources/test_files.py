"""Files as a source: what happens to them is told as it is meant."""

import asyncio
import contextlib

from lateen.sources.files import FileSource

PATIENCE_S = 60


async def following(folder, act, count, back_s):
    """The first events of a folder after ``act`` was done to it."""
    source = FileSource([folder], back_s=back_s)
    source.changed()
    stop, found = asyncio.Event(), []
    async with asyncio.timeout(PATIENCE_S):
        async with contextlib.aclosing(source.watch(stop)) as changes:
            acting = asyncio.create_task(act())
            async for events in changes:
                found.extend(events)
                if len(found) >= count:
                    break
        await acting
    return [(event.path.rpartition("/")[2], event.data) for event in found]


def test_a_file_that_is_taken_away_and_written_anew_was_never_gone(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("a: 1")

    async def edit():
        file.unlink()
        await asyncio.sleep(0.2)
        file.write_text("a: 2")

    assert asyncio.run(following(tmp_path, edit, 1, back_s=PATIENCE_S)) == [("a.yaml", b"a: 2")]


def test_a_file_that_does_not_come_back_is_gone(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("a: 1")

    async def remove():
        file.unlink()

    assert asyncio.run(following(tmp_path, remove, 1, back_s=0.1)) == [("a.yaml", None)]
