"""What a transfer copies: the files as their source lists them, checked, and what is expected of them."""

from caxflow.errors import BadSource, CaxflowError
from caxflow.files.listing import FileStat, Listing, printable, safe_path
from caxflow.files.manifest import Entry, Manifest
from caxflow.transfer.ends import at

_NAMED = 5  # files named in a message


class Dataset:
    """A directory or a single file at its source.

    Parameters
    ----------
    site, path : str
        Where it is.
    target : str
        The path of the copy: a single file may be called otherwise there.
    expected : Manifest, optional
        What it must hold.

    Attributes
    ----------
    listing : Listing
        Its files; none until `take`.
    names : list of str
        The files' paths in the copy, in the same order.
    """

    def __init__(self, site: str, path: str, target: str, expected: Manifest | None):
        self.site, self.path, self._target = site, path, target
        self._given = expected
        self.listing = Listing("", False, (), ())
        self.names: list[str] = []
        self._found: dict = {}  # the listing as the source gave it

    @property
    def where(self) -> str:
        """Site and path, for messages."""
        return f"{self.site}: {printable(self.path)}"

    def parse(self, found: dict) -> Listing:
        """Read a listing as the source gave it; what could lead elsewhere is refused."""
        try:
            files = tuple(FileStat(safe_path(path), *stated) for path, *stated in found["files"])
            directories = tuple(map(safe_path, found["directories"]))
            return Listing(found["root"], found["single"], files, directories)
        except CaxflowError as error:
            raise at(self.site, error) from None

    def take(self, found: dict) -> None:
        """Take the source's listing for what is to be copied, if it makes sense and is what is expected."""
        self.listing, self._found = self.parse(found), found
        files = self.listing.files
        if len({file.path for file in files}) != len(files) or not all(map(_possible, files)):
            raise CaxflowError(
                f"{self.site}: lists a file twice, or with a size or time that no file has", "report this"
            )
        if self.listing.single and len(files) != 1:
            raise CaxflowError(f"{self.site}: lists no file or several as one", "report this")
        if not files:
            raise CaxflowError(
                f"{self.where} holds no file",
                "check the path, and that the dataset was not moved away",
            )
        single = [self._target.rpartition("/")[2]]
        self.names = single if self.listing.single else [file.path for file in files]
        if self._given:
            self._check_listing()

    def _check_listing(self) -> None:
        """Find what differs from the expected manifest by names and sizes, before anything is read."""
        digest = {entry.path: entry.digest for entry in self.expected.entries}
        seen = tuple(Entry(file.path, file.size, digest.get(file.path, "")) for file in self.listing.files)
        self._refuse_differences(Manifest(self.expected.algorithm, seen))

    @property
    def expected(self) -> Manifest | None:
        """The expected manifest; of a single file, whatever it was called where that was taken."""
        return self.renamed(self._given) if self._given else None

    def renamed(self, manifest: Manifest) -> Manifest:
        """The same manifest with the source's name of a single file."""
        if not self.listing.single or len(manifest) != 1:
            return manifest
        entry = manifest.entries[0]
        return Manifest(manifest.algorithm, (Entry(self.listing.files[0].path, entry.size, entry.digest),))

    def manifests(self, digests: dict[int, dict[str, str]], algorithms) -> dict[str, Manifest]:
        """Manifests by algorithm, as far as all files have that digest.

        Parameters
        ----------
        digests : dict
            Digests by algorithm of each file, by its number.
        algorithms : sequence of str
            In this order.
        """
        files = self.listing.files
        lacking = [index for index in range(len(files)) if index not in digests]
        if lacking:
            raise CaxflowError(
                f"file {printable(self.names[lacking[0]])} was not moved to its end", "start again"
            )
        everywhere = set.intersection(*(set(found) for found in digests.values()))
        return {
            name: Manifest(
                name,
                tuple(Entry(file.path, file.size, digests[index][name]) for index, file in enumerate(files)),
            )
            for name in algorithms
            if name in everywhere
        }

    def check(self, manifests: dict[str, Manifest]) -> None:
        """Raise an error, BadSource where it is known to differ, unless what was read is what is expected."""
        if not self._given:
            return
        if self._given.algorithm not in manifests:
            raise CaxflowError(
                f"{self.site}: the expected manifest is by {self._given.algorithm}, which "
                "cannot be computed at the ends of this transfer",
                "install xxhash there, or give a manifest by sha256",
            )
        self._refuse_differences(manifests[self._given.algorithm])

    def _refuse_differences(self, seen: Manifest) -> None:
        found = self.expected.differences(seen)
        if found:
            raise BadSource(
                f"{self.where} is not what was expected: {some(found)}",
                "do not use this copy: take another source, or verify it at its site",
            )

    def refuse_changes(self, found: dict | None) -> None:
        """Raise a CaxflowError if the source lists something else by now, what; None: it does not."""
        if found is None or found == self._found or (now := self.parse(found)) == self.listing:
            return
        before = {file.path: file for file in self.listing.files}
        after = {file.path: file for file in now.files}
        names = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        named = ", ".join(map(printable, names[:_NAMED])) or "a directory"
        raise CaxflowError(
            f"{self.where} changed while it was copied: {named}",
            "wait until nothing writes to it any more, then start again",
        )


def _possible(file: FileStat) -> bool:
    return 0 <= file.size < 1 << 63 and -(1 << 63) <= file.mtime_ns < 1 << 63


def some(differences: list) -> str:
    """The first few differences in words."""
    named = "; ".join(map(str, differences[:_NAMED]))
    return named if len(differences) <= _NAMED else f"{named}; and {len(differences) - _NAMED} more"
