"""azure-appconfiguration against an origin that misbehaves, and the traps that clients are known to fall into.

Where a trap springs when the client talks to the origin directly, tagalong in between must disarm it: such scenarios
come in two halves, one for each target.
"""

import json
import os

from azure.appconfiguration import AzureAppConfigurationClient, ConfigurationSetting
from azure.core import MatchConditions
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceModifiedError, ServiceRequestError
from scenario import CONNECTION_STRING, ENDPOINT, counted, equal, faults, raises, run_all, scenario

GET_ONE, GET_LIST, PUT_ONE = "GET /kv/{key}", "GET /kv", "PUT /kv/{key}"


def put(client, key, value="v"):
    return client.set_configuration_setting(ConfigurationSetting(key=key, value=value))


def collect_etags(client, key_filter):
    iterator = client.list_configuration_settings(key_filter=key_filter).by_page()
    return [iterator.etag for _page in iterator]


def changed_pages(client, key_filter, etags):
    """How many pages the client reports as changed."""
    listed = client.list_configuration_settings(key_filter=key_filter)
    return len(list(listed.by_page(match_conditions=etags)))


@scenario(target="emulator")
def a_conditional_get_costs_a_304(client, p):
    setting = put(client, p + "a")
    with counted() as counts:
        client.get_configuration_setting(p + "a", etag=setting.etag, match_condition=MatchConditions.IfModified)
    equal((counts.total(), counts.of(GET_ONE, 304)), (1, 1))


@scenario()
def throttled_calls_are_retried_after_the_given_time(client, p):
    put(client, p + "a", "1")
    throttle = {"kind": "throttle", "retry_after": "50ms"}
    with counted() as counts, faults({"path": "/kv/" + p + "*", "count": 2, "do": throttle}):
        equal(client.get_configuration_setting(p + "a").value, "1")
    equal(counts.of(GET_ONE, 429) <= 2, True)


@scenario()
def an_unavailable_origin_is_retried(client, p):
    with faults({"path": "/kv/" + p + "*", "count": 1, "do": {"kind": "unavailable", "retry_after": "20ms"}}):
        equal(put(client, p + "a", "1").value, "1")


@scenario(target="emulator")
def a_throttled_call_that_never_recovers_fails_with_429(client, p):
    with faults({"path": "/kv/" + p + "*", "do": {"kind": "throttle", "retry_after": "5ms"}}):
        with raises(HttpResponseError) as raised:
            client.get_configuration_setting(p + "a")
    equal(raised.value.status_code, 429)


@scenario(target="emulator")
def a_dropped_connection_is_retried(client, p):
    put(client, p + "a", "1")
    for drop in [{"at": "before-head"}, {"at": "within-head", "after_bytes": 5}]:
        with counted() as counts, faults({"method": ["GET"], "count": 1, "do": {"kind": "drop", **drop}}):
            equal(client.get_configuration_setting(p + "a").value, "1")
        equal(counts.of(GET_ONE), 2)


@scenario(target="emulator")
def a_connection_that_ends_within_the_fields_looks_like_an_empty_200(client, p):
    """Python's http.client takes a head that breaks off after the status line for a whole one."""
    put(client, p + "a", "1")
    with faults({"method": ["GET"], "count": 1, "do": {"kind": "drop", "at": "within-head", "after_bytes": 20}}):
        with raises(json.JSONDecodeError):
            client.get_configuration_setting(p + "a")


@scenario(target="emulator")
def a_lost_answer_turns_a_conditional_write_into_412(client, p):
    """The retry of a write that was applied finds its own new ETag: a client cannot tell this from a lost race."""
    first = put(client, p + "a", "1")
    first.value = "2"
    lost = {"kind": "write", "answer": "unavailable", "retry_after": "10ms"}
    with faults({"method": ["PUT"], "path": "/kv/" + p + "*", "count": 1, "do": lost}):
        with raises(ResourceModifiedError):
            client.set_configuration_setting(first, match_condition=MatchConditions.IfNotModified)
    equal(client.get_configuration_setting(p + "a").value, "2")


@scenario(target="emulator")
def a_304_without_link_ends_the_paging(client, p):
    for number in range(101):
        put(client, f"{p}{number:03}")
    etags = collect_etags(client, p + "*")
    put(client, p + "100", "changed")
    equal(changed_pages(client, p + "*", etags), 1)
    with faults({"do": {"kind": "no-link-on-304"}}):
        equal(changed_pages(client, p + "*", etags), 0)


@scenario(target="sidecar")
def a_304_without_link_is_given_its_link_again(client, p):
    for number in range(101):
        put(client, f"{p}{number:03}")
    etags = collect_etags(client, p + "*")
    put(client, p + "100", "changed")
    with faults({"do": {"kind": "no-link-on-304"}}):
        equal(changed_pages(client, p + "*", etags), 1)


@scenario()
def weak_etags_come_back_as_they_were_given(client, p):
    put(client, p + "a", "1")
    with faults({"do": {"kind": "weak-etags"}}):
        etags = collect_etags(client, p + "*")
        equal(changed_pages(client, p + "*", etags), 0)
        put(client, p + "a", "2")
        equal(changed_pages(client, p + "*", etags), 1)


@scenario()
def odd_tokens_do_not_fail_a_call(client, p):
    put(client, p + "a", "1")
    odd = [
        {"kind": "no-sync-token"},
        {"kind": "sync-token-lines"},
        {"kind": "malformed-sync-token", "value": "nosn=AAAA"},
        {"kind": "malformed-sync-token", "value": "c=x;sn=9;foo=bar"},
        {"kind": "malformed-sync-token", "value": ";;,=,sn=;"},
    ]
    for fault in odd:
        with faults({"do": fault}):
            for value in ["2", "3"]:
                put(client, p + "a", value)
                equal(client.get_configuration_setting(p + "a").value, value)


@scenario(target="emulator")
def a_wrong_secret_is_refused(client, p):
    wrong = CONNECTION_STRING.rsplit("Secret=", 1)[0] + "Secret=d3Jvbmc="
    with AzureAppConfigurationClient.from_connection_string(wrong) as stranger:
        with raises(ClientAuthenticationError) as raised:
            stranger.get_configuration_setting(p + "a")
    challenge = raised.value.response.headers["WWW-Authenticate"]
    assert "Invalid Signature" in challenge, challenge
    assert not raised.value.response.content, "a 401 has no body"


@scenario(target="emulator")
def an_unknown_credential_is_refused(client, p):
    unknown = CONNECTION_STRING.replace(os.environ["TAGALONG_ID"], "unknown-id")
    with AzureAppConfigurationClient.from_connection_string(unknown) as stranger:
        with raises(ClientAuthenticationError) as raised:
            stranger.get_configuration_setting(p + "a")
    assert "Invalid Credential" in raised.value.response.headers["WWW-Authenticate"]


@scenario(target="emulator")
def a_slash_after_the_endpoint_breaks_the_signature(client, p):
    slashed = CONNECTION_STRING.replace(ENDPOINT, ENDPOINT + "/")
    with AzureAppConfigurationClient.from_connection_string(slashed) as stranger:
        with raises(ClientAuthenticationError):
            stranger.get_configuration_setting(p + "a")


@scenario()
def a_token_credential_is_not_sent_over_http(client, p):
    class Credential:
        asked = 0

        def get_token(self, *_scopes, **_options):
            Credential.asked += 1
            return AccessToken("not-a-secret", 4102444800)

    with counted() as counts, AzureAppConfigurationClient(ENDPOINT, Credential()) as refused:
        with raises(ServiceRequestError):
            refused.get_configuration_setting(p + "a")
    equal((counts.total(), Credential.asked), (0, 0))


if __name__ == "__main__":
    with AzureAppConfigurationClient.from_connection_string(CONNECTION_STRING) as shared:
        run_all(lambda function, prefix: function(shared, prefix))
