"""A student on Hugging Face's hub: the folder that is uploaded, written first and left where it is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from kdx.core.errors import UserError
from kdx.core.files import write_atomically
from kdx.report.run.verdict import of_table, which_of
from kdx.runs.publish.hub_card import README, UNFILLED, readme
from kdx.runs.publish.publisher import NotPublished, Publisher, Receipt, reaching
from kdx.runs.publish.shared import Shared
from kdx.runs.reading import read_mapping

_CARD = "card.json"


class Hub(Publisher):
    """One run's student, as `kdx export` writes it, with README.md in place of its card.md."""

    def send(self, runs: Sequence[Shared]) -> Iterator[Receipt]:
        if len(runs) > 1:
            raise UserError(
                f"to={self.asked.destination} takes the student of one run, and here are {len(runs)}: name "
                f"one of them, such as '{runs[0].run.path}'"
            )
        run, out = runs[0], self.asked.out
        if run.state != "finished" or "student" not in run.run.roles():
            raise UserError(
                f"the run '{run.run.path}' is {run.state} and has no student to hand on: run the same "
                "`kdx train` again"
            )
        kept = self._is_there(run, out) and not self.asked.again
        if not kept:
            self._write(run, out)
        lacks = UNFILLED in (out / README).read_text(encoding="utf-8")
        note = f"fill in what {out / README} marks as '{UNFILLED}'" if lacks else ""
        if self.asked.dry:
            yield Receipt(run.name, str(out), fresh=not kept, note=note)
            return
        yield Receipt(run.name, self._upload(out), note=note)

    def _is_there(self, run: Shared, out: Path) -> bool:
        """Whether the folder is there, with a README.md that may have been filled in since: then it is kept.
        Raises UserError where something else is, or it is not what is asked for."""
        if not out.exists() and not out.is_symlink():
            return False
        found: Any = None
        with suppress(UserError, OSError):
            found = read_mapping(out / _CARD).get("published")
        if out.is_symlink() or not found or not (out / README).is_file():
            raise UserError(
                f"'{out}' is there already and was not written by kdx publish: choose another folder with "
                "out=FOLDER"
            )
        anew = "again=true writes it anew, its README.md too"
        if self.asked.again:
            return True
        if found != run.id:
            raise UserError(f"'{out}' holds the student of another run: {anew}")
        if self.asked.license or self.asked.data_license:
            raise UserError(f"'{out}' is there and uploaded as it is: fill in its README.md, or {anew}")
        return True

    def _write(self, run: Shared, out: Path) -> None:
        """The folder, whole or not at all; an earlier one is replaced."""
        from kdx.core.documents import dump
        from kdx.runs.export.export import export, publish

        about = run.run.document
        fresh = out.with_name(f"{out.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            card = export(
                run.run,
                role="student",
                which=which_of("student", of_table(about)),
                formats=self.asked.formats,
                to=fresh,
                allow=self.asked.allow,
            )
            (fresh / "card.md").unlink()
            write_atomically(fresh / _CARD, dump({**card, "published": run.id}))
            write_atomically(fresh / README, readme(card, run, self.asked))
            publish(fresh, out)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _upload(self, out: Path) -> str:
        """The address of what was uploaded. Raises NotPublished: the folder stays."""
        import huggingface_hub

        stays = f"the folder is whole in '{out}', and the same command uploads it as it is then"
        if not huggingface_hub.get_token():
            raise NotPublished(
                f"{self.asked.destination} needs a token of Hugging Face: `hf auth login`, or HF_TOKEN=...; "
                f"{stays}"
            )
        api, repository = huggingface_hub.HfApi(), str(self.asked.destination.repository)
        try:
            with reaching(self.asked.destination):
                api.create_repo(repository, private=self.asked.private, exist_ok=True)
                api.upload_folder(repo_id=repository, folder_path=str(out), commit_message="Published by kdx")
        except NotPublished as error:
            raise NotPublished(f"{error}; {stays}") from error
        return f"https://huggingface.co/{repository}"
