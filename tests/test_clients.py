"""pip, uv, twine and poetry do with this server what they do with any other."""

import hashlib
import json
import sys
from pathlib import Path

import pytest

from tests.harness.clients import Desk
from tests.harness.corpus import corpus
from tests.harness.dists import core_metadata, normalize, sdist, wheel
from tests.harness.lifetime import fresh_schema
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.server import PUBLIC, Dev


@pytest.fixture(scope="module")
def channels() -> dict[str, dict]:
    return {
        "dev": PUBLIC,
        "by-twine": PUBLIC,
        "by-uv": PUBLIC,
        "internal": {"format": "pypi", "visibility": "internal"},
    }


def project_stem(path: Path) -> str:
    """The project's name as a file name of a wheel or of a source distribution spells it."""
    return path.name.split("-")[0] if path.suffix == ".whl" else path.name.rsplit("-", 1)[0]


def project_of(path: Path) -> str:
    return normalize(project_stem(path))


def assert_holds(server: Dev, channel: str, files: list[Path]) -> None:
    for path in files:
        content = path.read_bytes()
        listed = server.files(project_of(path), channel=channel)[path.name]
        assert listed["hashes"]["sha256"] == hashlib.sha256(content).hexdigest()
        assert listed["size"] == len(content)
        assert server.download(project_of(path), path.name, channel=channel) == content
    assert server.projects(channel=channel) == {project_of(path) for path in files}


@pytest.fixture(scope="module")
def published(server: Dev, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The corpus, published by twine into one channel and by uv into another."""
    files = corpus()
    desk = Desk(tmp_path_factory.mktemp("publishing"), server)
    desk.twine_upload(*files, channel="by-twine")
    desk.uv_publish(*files, channel="by-uv")
    return files


class TestRealPackages:
    @pytest.mark.parametrize("channel", ["by-twine", "by-uv"])
    def test_are_there_byte_for_byte_also_after_a_restart(self, server: Dev, published: list[Path], channel: str):
        if channel == "by-uv":  # which passes over the file names of old that are not normalised
            published = [path for path in published if "." not in project_stem(path)]
        assert len(published) >= 20
        assert any(path.name.startswith("numpy-") for path in published)
        assert_holds(server, channel, published)
        server.restart()
        assert_holds(server, channel, published)

    def test_pip_installs_them_with_what_they_need(self, desk: Desk, published: list[Path]):
        target = desk.folder / "target"
        desk.pip("install", "--target", target, "--index-url", desk.index_url("by-twine"), "flask", "numpy", "zope.interface==8.0.1")
        out = desk.run(sys.executable, "-c", "import flask, numpy, zope.interface; print(numpy.arange(3).sum())", PYTHONPATH=str(target))
        assert out.strip() == "3"

    def test_uv_installs_them_with_what_they_need(self, desk: Desk, published: list[Path]):
        target = desk.folder / "target"
        desk.uv("pip", "install", "--target", target, "--index-url", desk.index_url("by-uv"), "flask", "numpy", "requests")
        out = desk.run(sys.executable, "-c", "import flask, numpy, requests; print(numpy.arange(3).sum())", PYTHONPATH=str(target))
        assert out.strip() == "3"

    def test_pip_downloads_with_required_hashes(self, desk: Desk, published: list[Path]):
        requirements = desk.folder / "requirements.txt"
        desk.uv("pip", "compile", "--generate-hashes", "--no-emit-index-url", "--index-url", desk.index_url("by-uv"), "-o", requirements,
                self.write_input(desk, "flask\nnumpy\n"))
        assert requirements.read_text().count("--hash=sha256:") >= 8
        desk.pip("download", "--require-hashes", "-r", requirements, "-d", desk.folder / "got", "--index-url", desk.index_url("by-twine"))
        got = {path.name: path.read_bytes() for path in (desk.folder / "got").iterdir()}
        originals = {path.name: path.read_bytes() for path in published}
        assert got and all(originals[name] == content for name, content in got.items())

    def test_pip_refuses_a_file_of_another_hash(self, desk: Desk, published: list[Path]):
        requirements = self.write_input(desk, f"six==1.17.0 --hash=sha256:{'0' * 64}\n")
        out = desk.pip("download", "--require-hashes", "-r", requirements, "--index-url", desk.index_url("by-twine"), ok=False)
        assert "DO NOT MATCH" in out

    def test_poetry_locks_from_the_json_index(self, desk: Desk, published: list[Path]):
        folder = self.poetry_project(desk, "by-twine", "flask = '*'\nsix = '*'")
        desk.poetry("lock", cwd=folder)
        lock = (folder / "poetry.lock").read_text()
        for path in published:
            if project_of(path) in ("flask", "werkzeug", "six"):
                assert path.name in lock and hashlib.sha256(path.read_bytes()).hexdigest() in lock

    @staticmethod
    def write_input(desk: Desk, text: str) -> Path:
        path = desk.folder / "input.txt"
        path.write_text(text)
        return path

    @staticmethod
    def poetry_project(desk: Desk, channel: str, dependencies: str) -> Path:
        folder = desk.folder / "project"
        folder.mkdir()
        (folder / "pyproject.toml").write_text(
            '[tool.poetry]\nname = "acme-app"\nversion = "1.0"\npackage-mode = false\n'
            f'[tool.poetry.dependencies]\npython = "^{sys.version_info[0]}.{sys.version_info[1]}"\n{dependencies}\n'
            f'[[tool.poetry.source]]\nname = "granary"\nurl = "{desk.index_url(channel)}"\npriority = "primary"\n')
        return folder


class TestPublishing:
    def test_twine_again_is_welcome_and_other_bytes_are_not(self, desk: Desk, project: str):
        [path] = desk.write(wheel(project))
        desk.twine_upload(path)
        desk.twine_upload(path)
        desk.write(wheel(project, payload=b"changed"))
        assert "409" in desk.twine_upload(path, ok=False)

    def test_uv_checks_what_is_there(self, desk: Desk, project: str):
        paths = desk.write(wheel(project), sdist(project))
        desk.uv_publish(*paths, check=True)
        assert "already exists" in desk.uv_publish(*paths, check=True)
        desk.write(wheel(project, payload=b"changed"))
        desk.uv_publish(paths[0], check=True, ok=False)
        assert set(desk.server.files(project)) == {path.name for path in paths}

    def test_uv_sends_attestations(self, desk: Desk, project: str):
        [path] = desk.write(wheel(project))
        attestation = path.with_name(path.name + ".publish.attestation")
        attestation.write_text(json.dumps({"version": 1, "verification_material": {"certificate": "", "transparency_entries": []},
                                           "envelope": {"statement": "", "signature": ""}}))
        desk.uv_publish(path)
        assert path.name in desk.server.files(project)

    def test_poetry_publishes(self, desk: Desk, project: str):
        [path] = desk.write(wheel(project, "1.0"))
        folder = path.parent.parent
        (folder / "pyproject.toml").write_text(f'[project]\nname = "{project}"\nversion = "1.0"\n')
        user, token = desk.server.admin
        desk.poetry("publish", "--repository", "granary", "--dist-dir", path.parent, cwd=folder,
                    POETRY_REPOSITORIES_GRANARY_URL=desk.upload_url(), POETRY_HTTP_BASIC_GRANARY_USERNAME=user,
                    POETRY_HTTP_BASIC_GRANARY_PASSWORD=token)
        assert path.name in desk.server.files(project)

    @pytest.mark.parametrize("user", ["__token__", "ada", "somebody-else"])
    def test_a_token_is_the_password_of_any_user(self, desk: Desk, project: str, user: str):
        paths = desk.write(wheel(project), sdist(project))
        desk.twine_upload(paths[0], auth=(user, desk.server.admin_token))
        desk.uv_publish(paths[1], auth=(user, desk.server.admin_token))
        assert len(desk.server.files(project)) == 2

    def test_a_wrong_token_is_told_so(self, desk: Desk, project: str):
        paths = desk.write(wheel(project))
        assert "401" in desk.twine_upload(*paths, auth=("__token__", "not-a-token"), ok=False)
        desk.uv_publish(*paths, auth=("__token__", "not-a-token"), ok=False)
        assert desk.server.index(project) is None

    def test_a_reader_may_not_publish(self, desk: Desk, project: str):
        paths = desk.write(wheel(project))
        desk.server.user("reader")
        reader = desk.server.token("reader")
        assert "403" in desk.twine_upload(*paths, auth=reader, ok=False)
        assert desk.server.index(project) is None


class TestResolving:
    def pip_version(self, desk: Desk, *requirements: str) -> str:
        target = desk.folder / "pip-target"
        desk.pip("install", "--target", target, "--index-url", desk.index_url(), *requirements)
        return desk.installed_version(target, requirements[0].split("==")[0])

    def uv_version(self, desk: Desk, *requirements: str) -> str:
        target = desk.folder / "uv-target"
        desk.uv("pip", "install", "--target", target, "--index-url", desk.index_url(), *requirements)
        return desk.installed_version(target, requirements[0].split("==")[0])

    def test_the_newest_version_is_taken(self, desk: Desk, project: str):
        desk.server.publish(wheel(project, "1.9"), wheel(project, "1.10"), wheel(project, "2.0rc1"))
        assert self.pip_version(desk, project) == "1.10"
        assert self.uv_version(desk, project) == "1.10"

    def test_a_name_in_any_spelling(self, desk: Desk, project: str):
        desk.server.publish(wheel(project))
        spelling = project.replace("-", "_").upper()
        desk.pip("download", "--index-url", desk.index_url(), "-d", desk.folder / "got", spelling)
        desk.uv("pip", "install", "--target", desk.folder / "target", "--index-url", desk.index_url(), spelling)

    def test_yanked_versions_are_passed_over_unless_pinned(self, desk: Desk, project: str):
        desk.server.publish(wheel(project, "1.0"), wheel(project, "2.0"))
        assert desk.server.yank(project, "2.0", "leaks").status_code < 300
        assert self.pip_version(desk, project) == "1.0"
        assert self.uv_version(desk, project) == "1.0"
        out = desk.pip("download", "--index-url", desk.index_url(), "-d", desk.folder / "got", f"{project}==2.0")
        assert "yanked" in out and "leaks" in out
        assert desk.server.unyank(project, "2.0").status_code < 300
        assert "2.0" in desk.pip("install", "--dry-run", "--index-url", desk.index_url(), project)

    def test_requires_python_is_respected(self, desk: Desk, project: str):
        desk.server.publish(wheel(project, "1.0", requires_python=">=3.8"), wheel(project, "2.0", requires_python=">=99"))
        assert self.pip_version(desk, project) == "1.0"
        assert self.uv_version(desk, project) == "1.0"

    def test_source_distributions_are_built(self, desk: Desk, project: str):
        desk.server.publish(sdist(project, "3.1"))
        assert self.pip_version(desk, project) == "3.1"
        assert self.uv_version(desk, project) == "3.1"

    def test_metadata_files_are_used(self, desk: Desk, project: str):
        dependency = f"{project}-dependency"
        desk.server.publish(wheel(dependency), wheel(project, requires=(dependency,)))
        out = desk.pip("install", "--dry-run", "-vv", "--index-url", desk.index_url(), project)
        assert f"{wheel(project).filename}.metadata" in out
        (desk.folder / "in.txt").write_text(project)
        out = desk.uv("pip", "compile", "-v", "--index-url", desk.index_url(), "in.txt")
        assert f"{dependency}==1.0" in out and ".metadata" in out

    def test_a_date_excludes_what_came_later(self, desk: Desk, project: str):
        desk.server.publish(wheel(project))
        (desk.folder / "in.txt").write_text(project)
        compile_in = ("pip", "compile", "--index-url", desk.index_url(), "in.txt", "--exclude-newer")
        assert f"{project}==1.0" in desk.uv(*compile_in, "2999-01-01T00:00:00Z")
        desk.uv(*compile_in, "2020-01-01T00:00:00Z", ok=False)
        download = ("download", "--index-url", desk.index_url(), "-d", desk.folder / "got", project, "--uploaded-prior-to")
        desk.pip(*download, "2999-01-01T00:00:00Z")
        desk.pip(*download, "2020-01-01T00:00:00Z", ok=False)

    def test_dependencies_are_followed(self, desk: Desk, project: str):
        inner = f"{project}-inner"
        desk.server.publish(wheel(inner, "1.0"), wheel(inner, "2.0"), wheel(project, requires=(f"{inner}<2",)))
        target = desk.folder / "target"
        desk.pip("install", "--target", target, "--index-url", desk.index_url(), project)
        assert desk.installed_version(target, inner) == "1.0"

    def test_a_wheel_of_odd_metadata_is_served_as_it_is(self, desk: Desk, project: str):
        metadata = core_metadata(project, "1.0", extra="Author: Zoë Ångström\nKeywords: a, b\n\nA long déscription.\n")
        dist = wheel(project, metadata=metadata)
        desk.twine_upload(*desk.write(dist))
        served = desk.server.session.get(desk.server.file_url(project, dist.filename) + ".metadata", timeout=10)
        assert served.content == metadata


class TestCredentials:
    @pytest.fixture
    def private(self, server: Dev, project: str) -> str:
        server.publish(wheel(project), channel="internal")
        return project

    def test_without_them_pip_and_uv_are_challenged(self, desk: Desk, private: str):
        out = desk.pip("download", "--index-url", desk.index_url("internal"), private, ok=False)
        assert "401" in out or "No matching distribution" in out
        desk.uv("pip", "install", "--target", desk.folder / "t", "--index-url", desk.index_url("internal"), private, ok=False)

    def test_in_the_url(self, desk: Desk, private: str):
        url = desk.index_url("internal", desk.server.admin)
        desk.pip("download", "--index-url", url, "-d", desk.folder / "got", private)
        desk.uv("pip", "install", "--target", desk.folder / "target", "--index-url", url, private)

    def test_in_netrc(self, desk: Desk, private: str):
        netrc = str(desk.netrc(desk.server.admin))
        url = desk.index_url("internal")
        desk.pip("download", "--index-url", url, "-d", desk.folder / "got", private, NETRC=netrc)
        desk.uv("pip", "install", "--target", desk.folder / "target", "--index-url", url, private, NETRC=netrc)

    def test_user_of_the_url_and_password_from_a_keyring_command(self, desk: Desk, private: str):
        bin_folder = desk.folder / "bin"
        bin_folder.mkdir()
        keyring = bin_folder / "keyring"
        token = desk.server.admin_token
        answers = {"--mode=creds": json.dumps({"username": "__token__", "password": token}), "get": token}  # pip's way to ask, and uv's
        cases = "\n".join(f"{asked}) echo '{answer}' ;;" for asked, answer in answers.items())
        keyring.write_text(f"#!/bin/sh\ncase $1 in\n{cases}\nesac\n")
        keyring.chmod(0o755)
        url = desk.index_url("internal").replace("://", "://__token__@")
        path = f"{bin_folder}:{desk.environment['PATH']}"
        desk.uv("pip", "install", "--keyring-provider", "subprocess", "--target", desk.folder / "target", "--index-url", url, private, PATH=path)
        desk.pip("download", "--keyring-provider", "subprocess", "--index-url", url, "-d", desk.folder / "got", private, PATH=path)

    def test_of_a_reader(self, desk: Desk, private: str):
        desk.server.user("internal-reader")
        reader = desk.server.token("internal-reader")
        desk.pip("download", "--index-url", desk.index_url("internal", reader), "-d", desk.folder / "got", private)


class Talking(Dev):
    """`granary dev` as a person starts it: it says what to paste."""

    def arguments(self) -> list[str]:
        arguments = super().arguments()
        at = arguments.index("--admin-token-file")
        return arguments[:at] + arguments[at + 2:]


def test_the_lines_that_dev_prints_work_as_they_are(postgres: Postgres, tmp_path: Path):
    server = Talking(tmp_path / "server", postgres, fresh_schema())
    server.token_file = server.data / "admin-token"
    server.start()
    try:
        wait_until(lambda: any("uv pip install" in line for line in server.output), 5, "the lines to paste")
        desk = Desk(tmp_path / "desk", server)
        desk.write(wheel("acme-by-twine"))
        path = f"{Path(sys.executable).parent}:{desk.environment['PATH']}"
        lines = [line.strip() for line in server.output]
        ran = []
        for start, name in (("twine upload ", None), ("pip install ", "acme-by-twine"), ("uv publish ", None), ("uv pip install ", "acme-by-uv")):
            line = next(line for line in lines if line.startswith(start))
            if name is None:
                desk.run("sh", "-c", line, PATH=path)
                (desk.folder / "dist" / wheel("acme-by-twine").filename).unlink(missing_ok=True)
                desk.write(wheel("acme-by-uv"))
            else:
                desk.run("sh", "-c", f"{line.replace('NAME', name)} --target {desk.folder / name}", PATH=path)
                assert desk.installed_version(desk.folder / name, name) == "1.0"
            ran.append(line)
        assert len(ran) == 4
    finally:
        server.stop()
        server.kill()
        postgres.drop(server.schema)
