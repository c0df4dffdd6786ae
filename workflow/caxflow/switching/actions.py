"""What cax or caxflow would do to a run, in the words that both share."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Action:
    """What one of the two would do to a run; `other` is a host, `why` the rule, `location` the copy's.

    Verbs: pull, push, verify, process, remove; cax alone has ``forget``, by which a row goes and files stay.
    """

    verb: str
    kind: str
    other: str = ""
    why: str = field(default="", compare=False)
    location: str = field(default="", compare=False)

    def __str__(self) -> str:
        preposition = {"pull": " from ", "push": " to "}.get(self.verb, " at ")
        return f"{self.verb} {self.kind}{preposition + self.other if self.other else ''}"


@dataclass(frozen=True)
class Death:
    """Where cax's process ends: the task, and what its code raises there."""

    task: str
    error: str

    def __str__(self) -> str:
        return f"{self.task}: {self.error}"


@dataclass(frozen=True)
class Pass:
    """What one pass of cax's tasks does to a run: task and action, and where it ends before its time."""

    steps: list[tuple[str, Action]]
    death: Death | None = None

    @property
    def actions(self) -> list[Action]:
        """What it does, in order, each once."""
        return list(dict.fromkeys(action for _, action in self.steps))
