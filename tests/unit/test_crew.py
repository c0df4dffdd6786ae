"""Movers that log in late."""

import threading

from caxflow.transfer import crew


class Job:
    """As much of a transfer as a crew sees; logging in takes until `gate` is opened."""

    source, destination = "first source", "first destination"
    pieces_left = goes_on = False

    def __init__(self):
        self.stopped = threading.Event()
        self.gate = threading.Event()
        self.errors = []

    def further(self):
        self.gate.wait(60)
        return ["further source", "further destination"]

    def joined(self, *ends):
        return True

    def stop(self, error):
        self.errors.append(error)


def test_who_comes_when_all_is_moved_does_nothing(monkeypatch):
    """The copy may be published by then: there is nothing any more that one could join."""
    moved = []
    monkeypatch.setattr(crew, "_mover", lambda job: lambda _, *ends: moved.append(ends))
    job = Job()
    movers = crew.Crew(job)
    movers.work(2, 2, 0.0)  # does not wait for the second
    late = [thread for thread in threading.enumerate() if thread.name == "mover 1"]
    job.gate.set()
    for thread in late:
        thread.join(60)
    assert late
    assert moved == [("first source", "first destination")]
    assert movers.worked == 1
    assert job.errors == []


def test_who_comes_while_there_is_something_left_helps(monkeypatch):
    moved = []
    job = Job()
    job.pieces_left = True

    def mover(_, source, destination):
        moved.append(source)
        if len(moved) == 2:
            job.pieces_left = False

    monkeypatch.setattr(crew, "_mover", lambda job: mover)
    job.gate.set()
    movers = crew.Crew(job)
    movers.work(2, 2, 0.0)
    assert sorted(moved) == ["first source", "further source"]
    assert movers.worked == 2
