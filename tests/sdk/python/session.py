"""Two Python clients and one JavaScript client, none of which knows of the others: A writes, B and C read at once.

The store settles within 3 s on its three replicas. Directly before it B and C see old states; on one sidecar, never. So many
rounds as TAGALONG_ROUNDS says (`run.py --rounds`)."""

import json
import os
import pathlib
import subprocess

from azure.appconfiguration import AzureAppConfigurationClient, ConfigurationSetting
from azure.core.exceptions import ResourceNotFoundError
from scenario import CONNECTION_STRING, run_all, scenario

ROUNDS = int(os.environ["TAGALONG_ROUNDS"])
READER = pathlib.Path(__file__).resolve().parent.parent / "javascript" / "reader.js"
# How often C also provokes 304, 404 and 412, and how often both read a list beside the key-value.
PROVOKED_EVERY, LISTED_EVERY = 10, 2


def new_client():
    return AzureAppConfigurationClient.from_connection_string(CONNECTION_STRING)


def value(client, key):
    """The value of a key; None when the store shows none."""
    try:
        return client.get_configuration_setting(key).value
    except ResourceNotFoundError:
        return None


class JavaScriptClient:
    """javascript/reader.js in a process of its own."""

    def __enter__(self):
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process = subprocess.Popen(["node", READER], **pipes)
        return self

    def __exit__(self, *_error):
        self.process.stdin.close()
        self.process.wait(30)

    def ask(self, **request):
        """Tells it what to read and does not wait."""
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def answer(self):
        """What came of it."""
        line = self.process.stdout.readline()
        assert line, "the JavaScript client ended"
        return json.loads(line)


def play(prefix):
    """Plays all rounds; returns (reads, stale reads, what went wrong in the JavaScript client)."""
    reads = stale = 0
    complaints = []
    with new_client() as a, new_client() as b, JavaScriptClient() as c:
        for turn in range(ROUNDS):
            key, wanted = f"{prefix}{turn % 7}", str(turn)
            listed = prefix + "*" if turn % LISTED_EVERY == 0 else None
            a.set_configuration_setting(ConfigurationSetting(key=key, value=wanted))
            c.ask(key=key, list=listed, provoke=turn % PROVOKED_EVERY == 0)
            seen = [value(b, key) == wanted]
            if listed:
                seen.append(wanted in [setting.value for setting in b.list_configuration_settings(key_filter=listed)])
            answer = c.answer()
            if "error" in answer:
                complaints.append(f"round {turn}: {answer['error']}")
            else:
                seen.append(answer["value"] == wanted)
                if listed:
                    seen.append(wanted in answer["listed"])
                if None in answer["received"] or (turn > 0 and answer["sent"] is None):
                    complaints.append(f"round {turn}: tokens were lost: {answer}")
            reads, stale = reads + len(seen), stale + seen.count(False)
    print(f"{ROUNDS} rounds, {reads} reads, {stale} of them stale, {len(complaints)} complaints of JavaScript")
    return stale, complaints


@scenario(target="sidecar")
def no_client_of_one_sidecar_reads_an_old_state(p):
    stale, complaints = play(p)
    assert stale == 0, f"{stale} stale reads"
    assert not complaints, complaints[0]


@scenario(target="emulator")
def without_the_sidecar_clients_read_old_states(p):
    """So the other half can fail."""
    stale, _complaints = play(p)
    assert stale > 0, "no stale read in front of lagging replicas"


if __name__ == "__main__":
    run_all(lambda function, prefix: function(prefix))
