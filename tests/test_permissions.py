"""Claude Code's form: what is allowed is surely that, what is denied or asked about may be that, whoever tries what."""

import os
import pickle
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("pathspec")

from hitl_graph.errors import PolicyError
from hitl_graph.policy import Call, Policy
from hitl_graph.policy.shell import CommandPattern
from hitl_graph.policy.wildcard import fits

ROOT = "/work/project"
ARGUMENTS = {"Bash": "command", "terminal": "commands", "Read": "file_path", "Edit": "file_path", "Write": "file_path"}


def said(entries: dict[str, list[str]], tool: str, value: Any = None, **args: Any) -> str:
    args |= {} if value is None else {ARGUMENTS.get(tool, "url"): value}
    return Policy.from_permissions(entries, root=ROOT).judge(Call(tool, args)).outcome


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "tool", "matches"),
    [
        ("Bash", "Bash", True),
        ("Bash", "bash", False),
        ("Bash(*)", "Bash", True),
        ("mcp__github__*", "mcp__github__push", True),
        ("mcp__github__*", "mcp__gitlab__push", False),
        ("mcp__github", "mcp__github__push", True),
        ("mcp__github", "mcp__githubs__push", False),
        ("mcp__github__push", "mcp__github__push", True),
        ("*", "anything", True),
        ("send_*", "send_mail", True),
    ],
)
def test_a_bare_tool_is_every_call_of_it(entry: str, tool: str, matches: bool) -> None:
    policy = Policy.from_permissions({"deny": [entry]})
    assert (policy.judge(Call(tool, {})).outcome == "deny") is matches


def test_deny_before_ask_before_allow_however_exact_they_are() -> None:
    entries = {"allow": ["Bash(aws s3 ls)", "Bash(git push)"], "ask": ["Bash(git *)"], "deny": ["Bash(aws *)"]}
    assert said(entries, "Bash", "aws s3 ls") == "deny"
    assert said(entries, "Bash", "git push") == "ask"
    assert said({"allow": entries["allow"]}, "Bash", "git push") == "allow"
    assert said(entries, "Bash", "ls") == "ask"  # nobody said anything


@pytest.mark.parametrize(
    "entry",
    [
        "", " ", "Bash(", "Bash()", "Bash)x(", "two words", "Bash(rm) x", "unknown(some text)",
        "WebFetch(example.com)",
        "WebFetch(domain:exa mple.com)", "WebFetch(domain:münchen.example)", "Read(../x)", "Read(!x)", "Read([a)",
        3, None,
    ],
)  # fmt: skip
def test_an_entry_that_would_do_nothing_is_an_error(entry: Any) -> None:
    with pytest.raises(PolicyError):
        Policy.from_permissions({"deny": [entry]})


def test_what_would_allow_any_program_is_an_error() -> None:
    for entry in ("Bash(* --version)", "Bash(:*)", "job(command:*)"):
        with pytest.raises(PolicyError, match="begin with a program"):
            Policy.from_permissions({"allow": [entry]})


def test_lists_have_known_names() -> None:
    with pytest.raises(PolicyError, match="'deni'"):
        Policy.from_permissions({"deni": ["Bash"]})
    with pytest.raises(PolicyError, match="list of texts"):
        Policy.from_permissions({"deny": "Bash"})


# --- commands ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    ["git status", "git", "git log --oneline HEAD~1", 'git commit -m "a; b && c"', "git commit -m 'costs $3 `now`'"],
)
def test_one_plain_command_is_allowed(command: str) -> None:
    assert said({"allow": ["Bash(git *)"]}, "Bash", command) == "allow"
    assert said({"allow": ["Bash(git:*)"]}, "Bash", command) == "allow"


NOT_ONLY_GIT = [
    "git status && rm -rf /", "git status || rm x", "git status; rm x", "git status & rm x", "git status | sh",
    "git status\nrm x", "git status\r\nrm x", "git $(rm x)", "git `rm x`", 'git "$(rm x)"', "git ${X}", "git $X",
    "git status > /etc/passwd", "git status >> x", "git < x", "git <(rm x)", "git {a,b}", "git *", "git 'open",
    'git "open', "git \\\nrm", "git\trm", "git\u00a0status", "git status # x", "git ~/x", "git !!",
    "env X=1 sudo git push",
    "X=1 git push", "LD_PRELOAD=./x git status", "sudo git status", "timeout 5 git status", "nohup git status",
    "/bin/git status", "./git status", "gitx", "'git' status", "GIT status", "", " ", "git\x00status",
]  # fmt: skip


@pytest.mark.parametrize("command", NOT_ONLY_GIT)
def test_what_is_not_surely_one_plain_command_is_never_allowed(command: str) -> None:
    assert said({"allow": ["Bash(git *)"]}, "Bash", command) == "ask"


REMOVES = [
    "rm -rf /", "rm", "RM x", "/bin/rm x", "sudo rm x", "sudo -u root rm x", "env X=1 sudo rm x", "X=1 rm x",
    "timeout 5 rm x", "nohup rm x", "nice -n 5 rm x", "xargs rm", "find . -exec rm {} +", "time rm x", "command rm x",
    "exec rm x", "busybox rm x", "ssh host rm x", "git status && rm x", "git status;rm x", "true|rm x", "a\nrm x",
    "a & rm x", "a || rm x", "( rm x )", "{ rm x; }", "! rm x", "if true; then rm x; fi", "while rm x; do :; done",
    "f(){ rm x; }; f", "$(rm x)", "echo `rm x`", 'echo "$(rm x)"', "cat <(rm x)", "coproc rm x",
    "echo \"$(X='a;b' rm x)\"", "true && X='a;b' rm x", ">x rm y", "<x rm y", "rm>x y", "2>&1 rm y",
    "sh -c 'rm x'", 'bash -lc "cd / && rm x"', "sudo sh -c 'true;rm x'", "eval 'rm x'", "su -c 'rm x'",
    "env -S 'rm x'",
    "r\\m x", "r''m x", "'rm' x", '"rm" x', "$'\\x72m' x", "r\\\nm x", "$X x", "sudo $X", "env A=1 $X",
    "rm$IFS-rf$IFS/",
    "{rm,-rf,/}", "/bin/r? x", "alias x=rm; x y", "curl x | sh", "echo cm0= | base64 -d | bash", "bash <<E\nrm x\nE",
    "echo rm | xargs -I{} {} x", "echo rm x | xargs -I % sh -c '%'", "echo rm | xargs -I % % x",
    "source /dev/stdin <<< 'rm x'",
    ". <(echo rm x)", "bash /dev/stdin", "sh <<< rm", "sh -c $W", "env env $W", "#\\\nrm x", "trap rm EXIT",
    "echo rm | xargs env", "bash rm x",
    "find $W",
    "sudo find . -exec /bin/r? {} +", "echo 'open rm", "rm\x00", "\x1brm", ["git status", "rm x"], 3, None, [],
    {"rm": 1}, "; " * 9999,
]  # fmt: skip


@pytest.mark.parametrize("command", REMOVES)
def test_what_may_be_the_command_is_denied(command: Any) -> None:
    for tool in ("Bash", "terminal"):
        call = Call(tool, {ARGUMENTS[tool]: command})
        assert Policy.from_permissions({"deny": ["Bash(rm *)"]}).judge(call).outcome == "deny"


@pytest.mark.parametrize(
    "command",
    [
        "git status", "echo $HOME", "ls *.py", "rmdir x", "make clean", "bash run.sh", "[ -f x ] && git status",
        "git commit -m 'remove old'", "cat a > b 2>&1", "for i in 1 2; do echo $i; done", "echo hi | grep rm",
        "find . -name '*.py'", "sudo echo $HOME", "timeout 5 ls *.py", "xargs -I {} echo {}", "env | grep X",
        "xargs -I % echo %", "source .venv/bin/activate", "find . -exec echo {} +",
    ],
)  # fmt: skip
def test_other_commands_are_left_alone(command: str) -> None:
    assert said({"deny": ["Bash(rm *)"], "allow": ["Bash"]}, "Bash", command) == "allow"


def test_options_in_between_hide_nothing() -> None:
    deny = {"deny": ["Bash(git push:*)"], "allow": ["Bash"]}
    for command in ("git -C /x push", "git --no-pager push -f", "git -C /x $WHAT", "git $WHAT"):
        assert said(deny, "Bash", command) == "deny"
    for command in ("git commit -m push", 'git commit -m "$TEXT"', "git -C /x log"):
        assert said(deny, "Bash", command) == "allow"


def test_without_the_argument_only_the_strict_rules_match() -> None:
    assert said({"allow": ["Bash(git *)"]}, "Bash", cmd="git status") == "ask"
    assert said({"deny": ["Bash(rm *)"]}, "Bash", cmd="ls") == "deny"


@pytest.mark.parametrize(
    "command",
    ["sudo sh " * 240, "sh -c '" * 50, "sudo 'sudo a;b' " * 240, "'" + "; " * 499 + "'", "if " * 4000, "xargs " * 400],
)
def test_no_command_takes_long(command: str) -> None:
    """A model may send anything, and every rule looks at it."""
    start = perf_counter()
    CommandPattern("rm *").perhaps(command)
    assert perf_counter() - start < 5


PIECES = [
    "git", "rm", "echo", "x", "status", " ", " ", " ", "&&", "||", ";", "&", "|", "\n", "$(", ")", "`", "(", "'",
    '"', "\\",
    "\\\n", ">", "<", "2>&1", "#", "$W", "${W}", "{", "}", ",", "*", "~", "!", "W=rm", "A=1", "sh -c ", "bash -c ",
    "env ",
    "sudo ", "timeout 5 ", "xargs ", "eval ", "exec ", "command ", "if ", "then ", "fi", "$'\\x72m'", "r''m",
    '"rm" x',
    "$'", "<<<", "<(", "[", "]", "git status", "sudo -n git", "\t", "rm x",
]  # fmt: skip


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """A shell whose programs only write down that they ran, and the wrappers that it needs."""
    base = tmp_path_factory.mktemp("shell")
    programs, log, cwd = base / "bin", base / "log", base / "cwd"
    programs.mkdir()
    cwd.mkdir()
    for name in ("git", "rm", "echo"):
        (programs / name).write_text(f"#!/bin/sh\necho {name} >> '{log}'\n")
    for name in ("sudo", "timeout"):
        (programs / name).write_text(
            '#!/bin/sh\nwhile case $1 in -*|5) :;; *) false;; esac; do shift; done\nexec "$@"\n'
        )
    for program in programs.iterdir():
        program.chmod(0o755)
    for name in ("sh", "bash", "env", "xargs"):
        (programs / name).symlink_to(shutil.which(name) or f"/bin/{name}")

    def ran(command: str) -> list[str]:
        log.unlink(missing_ok=True)
        shutil.rmtree(cwd)
        cwd.mkdir()
        subprocess.run(
            [str(programs / "bash"), "-c", command], env={"PATH": str(programs), "W": "rm"}, cwd=cwd, timeout=20,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        return log.read_text().split() if log.exists() else []

    return ran


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(PIECES), max_size=9).map("".join).filter(lambda text: "\x00" not in text))
def test_a_real_shell_agrees(shell: Callable[[str], list[str]], command: str) -> None:
    """What is surely `git` runs git once and nothing else; what may not be `rm` does not run it."""
    surely, perhaps = CommandPattern("git *").surely(command), CommandPattern("rm *").perhaps(command)
    if surely or not perhaps:
        ran = shell(command)
        assert not surely or ran == ["git"]
        assert perhaps or "rm" not in ran


@settings(max_examples=300)
@given(st.text("ab*", max_size=6), st.text("ab", max_size=8))
def test_the_wildcard_is_that_of_a_glob(pattern: str, text: str) -> None:
    from fnmatch import fnmatchcase

    assert fits(pattern, text) == fnmatchcase(text, pattern)


# --- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["src/a.py", "./src/a/b.py", f"{ROOT}/src/x"])
def test_a_file_within_is_allowed(path: str) -> None:
    assert said({"allow": ["Read(src/**)"]}, "Read", path) == "allow"


ESCAPES = [
    "src/../etc/x", "src/x/../../.env", "../src/a", "/etc/passwd", "src", "src/..", "SRC/a", "src\\..\\..\\x",
    "~/src/a",
    "~root/src/a", "src/\x00a", "src/a\n", f"/{ROOT}/src/a", "C:/src/a", "c:\\src\\a", "", " src/a", "src/a ",
    f"{ROOT}/src/../../x", f"file://{ROOT}/src/a", "%73rc/a", "/src/a", f"{ROOT}x/src/a", "\uff53rc/a", 3, ["src/a",
    "/etc/x"],
]  # fmt: skip


@pytest.mark.parametrize("path", ESCAPES)
def test_a_path_that_escapes_is_never_allowed(path: Any) -> None:
    assert said({"allow": ["Read(src/**)"]}, "Read", path) == "ask"


@pytest.mark.parametrize(
    "path",
    [
        ".env", "./.env", f"{ROOT}/.env", "a/../.env", ".ENV", ".env ", " .env", ".\\.env", "x/../../project/.env",
        "%2e%65nv", "%252eenv", f"file://{ROOT}/.env", f"//{ROOT}//.env", ".env.", "\uff0eenv", "/elsewhere/.env",
        "\x00", 3,
    ],
)  # fmt: skip
def test_a_file_is_denied_in_every_spelling(path: Any) -> None:
    for tool in ("Read", "read_file"):
        deny = Policy.from_permissions({"deny": ["Read(./.env)"]}, root=ROOT)
        assert deny.judge(Call(tool, {"file_path": path})).outcome == "deny"


def test_other_files_are_left_alone() -> None:
    deny = {"deny": ["Read(./.env)", "Read(//etc/**)", "Read(~/.ssh/**)"], "allow": ["Read"]}
    for path in ("src/.environment", "a.env", "etc/hosts", "x/ssh/y"):
        assert said(deny, "Read", path) == "allow"
    for path in (
        "/etc/passwd",
        "../../etc/passwd",
        "/ETC/passwd",
        "~/.ssh/id",
        os.path.expanduser("~/.ssh/id"),
        "~x/y",
    ):
        assert said(deny, "Read", path) == "deny"


def test_what_is_denied_to_one_tool_is_denied_to_those_that_do_the_same() -> None:
    entries = {"deny": ["Edit(./.env)"], "allow": ["Write", "Read", "Edit(src/**)"]}
    assert said(entries, "Write", ".env") == "deny"
    assert said(entries, "Read", ".env") == "allow"
    assert said({"allow": ["Edit(src/**)"]}, "Write", "src/a") == "ask"  # allowed is that tool only


@settings(max_examples=300)
@given(st.lists(st.sampled_from(["src", "..", ".", "", "a", "etc", "~", "\\", " ", "%2e%2e", "project"]), max_size=7))
def test_no_path_that_is_allowed_lies_elsewhere(parts: list[str]) -> None:
    path = "/".join(parts)
    if said({"allow": ["Read(src/**)"]}, "Read", path) == "allow":
        assert os.path.normpath(os.path.join(ROOT, path)).startswith(f"{ROOT}/src/")
        assert said({"deny": ["Read(src/**)"]}, "Read", path) == "deny"


# --- hosts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["https://example.com/x", "http://EXAMPLE.com", "https://example.com:443/a?b#c"])
def test_a_host_is_allowed(url: str) -> None:
    assert said({"allow": ["WebFetch(domain:example.com)"]}, "WebFetch", url) == "allow"


ELSEWHERE = [
    "https://example.com@evil.com/", "https://evil.com/example.com", "https://example.com.evil.com",
    "https://www.example.com", "https://example.com:8080", "https://user@example.com", "ftp://example.com",
    "https://example.com\\@evil.com", "https://evil.com\\@example.com", "https://ex\tample.com", "//example.com",
    "example.com", "https://example.com.", "https://ex%61mple.com", "https://\u0435xample.com",
    "https://example.com:0443",
    "https://*.example.com", "http:example.com", " https://example.com", "https://[::1]", "https://example.com:x",
    "file:///etc/passwd", "https://evil.com#@example.com", "https://evil.com?@example.com", "", 3,
]  # fmt: skip


@pytest.mark.parametrize("url", ELSEWHERE)
def test_a_url_that_may_go_elsewhere_is_never_allowed(url: Any) -> None:
    assert said({"allow": ["WebFetch(domain:example.com)"]}, "WebFetch", url) == "ask"


@pytest.mark.parametrize(
    "url",
    [
        "https://www.example.com", "https://example.com:8080", "https://user@example.com", "ftp://example.com",
        "https://example.com\\@evil.com", "https://evil.com\\@example.com", "https://ex\tample.com", "//example.com",
        "example.com", "https://example.com.", "https://ex%61mple.com", "https://\uff45xample.com",
        "http:example.com",
        "http:/example.com//x", "HTTPS://EXAMPLE.COM", "example。com", "example.com:80/x", "", None, 3,
    ],
)  # fmt: skip
def test_a_host_is_denied_in_every_spelling(url: Any) -> None:
    call = Call("WebFetch", {"url": url})
    assert Policy.from_permissions({"deny": ["WebFetch(domain:example.com)"]}).judge(call).outcome == "deny"


def test_hosts_below_and_numbers() -> None:
    below = {"allow": ["WebFetch(domain:*.example.com)"]}
    assert said(below, "WebFetch", "https://a.b.example.com") == "allow"
    assert said(below, "WebFetch", "https://example.com") == "ask"
    assert said(below, "WebFetch", "https://evilexample.com") == "ask"
    local = {"deny": ["WebFetch(domain:127.0.0.1)"], "allow": ["WebFetch"]}
    for url in ("http://2130706433/", "http://0x7f.1/", "http://127.1", "http://127.0.0.1:8080"):
        assert said(local, "WebFetch", url) == "deny"
    assert said(local, "WebFetch", "https://example.org") == "allow"


# --- any argument --------------------------------------------------------------------------------------------------


def test_any_tool_can_be_told_by_an_argument() -> None:
    entries = {"allow": ["transfer(currency=EUR)", "note(text:hello *)"], "deny": ["transfer(amount:1000*)"]}
    assert said(entries, "transfer", currency="EUR", amount=5) == "allow"
    assert said(entries, "transfer", currency="eur", amount=5) == "ask"
    assert said(entries, "transfer", currency="EUR", amount=10000) == "deny"
    assert said(entries, "transfer", currency="EUR", amount=10000.0) == "deny"
    assert said(entries, "transfer", currency="EUR") == "deny"  # without the amount, in doubt
    assert said(entries, "transfer", currency="EUR", amount=[5]) == "allow"
    assert said(entries, "transfer", currency="EUR", amount={"x": 5}) == "deny"
    assert said(entries, "note", text="hello Bob") == "allow"
    assert said(entries, "note", text="hello ../../x") == "ask"
    assert said(entries, "note", text="hello\nBob") == "ask"


def test_an_argument_that_is_a_command_or_a_path_is_never_mere_text() -> None:
    entries = {"allow": ["job(script:git *)", "upload(path:reports/*)"]}
    assert said(entries, "job", script="git status") == "allow"
    assert said(entries, "job", script="git status && rm x") == "ask"
    assert said(entries, "upload", path="reports/a") == "allow"
    assert said(entries, "upload", path="reports/../.env") == "ask"


# --- settings.json -------------------------------------------------------------------------------------------------

SETTINGS = """{
  "model": "x",
  "permissions": {
    "allow": ["Bash(npm run test:*)"],
    "deny": [
      "Read(./.env)",
      "Bash(curl:*)"
    ],
    "defaultMode": "acceptEdits"
  },
  "hooks": {}
}"""


def test_the_settings_of_claude_code_are_read(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text(SETTINGS)
    for policy in (Policy.from_permissions(file), Policy.from_file(file)):
        verdict = policy.judge(Call("Bash", {"command": "curl x"}))
        assert (verdict.outcome, verdict.reason) == ("deny", f"rule Bash(curl:*) says deny ({file}:7)")
        assert policy.judge(Call("Edit", {"file_path": "x"})).outcome == "ask"  # acceptEdits would ask less
        policy.check(["Bash"])  # it may speak of tools that there are not
    file.write_text(SETTINGS.replace('"deny"', '"denny"').replace("npm run test:*", ""))
    with pytest.raises(PolicyError) as caught:
        Policy.from_file(file)
    assert str(caught.value).split("\n") == [
        f"{file}:5: permissions.denny: did you mean deny?",
        f"{file}:4: permissions.allow[0]: Bash() has an empty specifier; write Bash for every call of it",
    ]
    for broken, line in (('{"permissions": {"deny": [], "deny": []}}', 1), ("{\n\n]", 3), ("[]", 1), ("{}", 1)):
        file.write_text(broken)
        with pytest.raises(PolicyError, match=rf"settings\.json:{line}: "):
            Policy.from_file(file)


def test_a_misspelt_tool_of_ones_own_policy_is_an_error() -> None:
    with pytest.raises(PolicyError, match="did you mean 'Bash'"):
        Policy.from_permissions({"deny": ["Bassh(command:rm)"]}).check(["Bash"])
    Policy.from_permissions({"deny": ["Bash(rm:*)"]}).check(["Bash"])


def test_policies_of_permissions_can_be_pickled() -> None:
    policy = Policy.from_permissions({"deny": ["Bash(rm:*)", "Read(./.env)", "WebFetch(domain:example.com)"]})
    again = pickle.loads(pickle.dumps(policy))
    assert again.judge(Call("Bash", {"command": "rm x"})).outcome == "deny"
