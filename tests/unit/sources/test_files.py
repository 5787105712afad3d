"""Files as a source: what happens to them is told as it is meant."""

import asyncio
import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

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


def states(folder, toggle):
    """What a folder's files are said to be, one after the other, while ``toggle`` is done all the time."""
    source, events, over = FileSource([folder]), [], threading.Event()

    def toggling():
        while not over.is_set():
            toggle()

    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(toggling)
        try:
            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                events += [event.data for event in source.changed()]
        finally:
            over.set()
        work.result()
    return [*events, *(event.data for event in source.changed())]


def test_no_end_of_a_file_is_missed_however_quickly_it_comes_and_goes(tmp_path):
    """It may go between the moments in which a folder is listed and a file is read; then it is gone all the same."""
    file, written = tmp_path / "a.yaml", tmp_path / "written"

    def toggle():
        written.write_text("a: 1")
        written.replace(file)
        file.unlink()

    told = states(tmp_path, toggle)
    assert told == [b"a: 1", None] * (len(told) // 2)


def test_folders_may_come_and_go_while_they_are_walked(tmp_path):
    (tmp_path / "a.yaml").write_text("a: 1")

    def toggle():
        (tmp_path / "sub" / "deeper").mkdir(parents=True)
        (tmp_path / "sub" / "deeper").rmdir()
        (tmp_path / "sub").rmdir()

    assert states(tmp_path, toggle) == [b"a: 1"]
