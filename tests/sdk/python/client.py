"""azure-appconfiguration, synchronous: every operation of the client against an App Configuration origin."""

import datetime
import time

from azure.appconfiguration import (
    AzureAppConfigurationClient,
    ConfigurationSetting,
    ConfigurationSettingsFilter,
    FeatureFlagConfigurationSetting,
    ResourceReadOnlyError,
    SecretReferenceConfigurationSetting,
)
from azure.core import MatchConditions
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from scenario import connect, equal, raises, run_all, scenario

NO_LABEL = "\0"


def keys(settings):
    """(key, label) of each setting, in the order received."""
    return [(setting.key, setting.label) for setting in settings]


def put(client, key, value="v", label=None, **fields):
    """Sets a key-value unconditionally."""
    return client.set_configuration_setting(ConfigurationSetting(key=key, value=value, label=label, **fields))


@scenario()
def get_with_every_field(client, p):
    wanted = put(client, p + "a", "héllo ✓", label="prod", content_type="text/plain", tags={"env": "dev", "é": ""})
    got = client.get_configuration_setting(p + "a", label="prod")
    equal((got.key, got.label, got.value), (p + "a", "prod", "héllo ✓"))
    equal((got.content_type, got.tags, got.read_only), ("text/plain", {"env": "dev", "é": ""}, False))
    equal((got.etag, got.last_modified), (wanted.etag, wanted.last_modified))
    equal(got.last_modified.utcoffset(), datetime.timedelta(0))


@scenario()
def get_keys_with_reserved_characters(client, p):
    for key, label in [("a/b c*?é", "L,*\\x"), ("x&y=z+w#1", "a&b"), ("dots/../x", "."), ("日本", None)]:
        put(client, p + key, key, label=label)
        equal(client.get_configuration_setting(p + key, label=label).value, key)


@scenario()
def get_missing(client, p):
    with raises(ResourceNotFoundError):
        client.get_configuration_setting(p + "missing")
    put(client, p + "labelled", label="prod")
    with raises(ResourceNotFoundError):
        client.get_configuration_setting(p + "labelled")


@scenario()
def get_without_a_label_in_both_spellings(client, p):
    put(client, p + "a", "none")
    put(client, p + "a", "prod", label="prod")
    equal(client.get_configuration_setting(p + "a").value, "none")
    equal(client.get_configuration_setting(p + "a", label=NO_LABEL).value, "none")


@scenario()
def get_conditionally(client, p):
    first = put(client, p + "a", "1")
    unchanged = dict(etag=first.etag, match_condition=MatchConditions.IfModified)
    equal(client.get_configuration_setting(p + "a", **unchanged), None)
    second = put(client, p + "a", "2")
    equal(client.get_configuration_setting(p + "a", **unchanged).value, "2")
    exact = MatchConditions.IfNotModified
    equal(client.get_configuration_setting(p + "a", etag=second.etag, match_condition=exact).value, "2")
    with raises(ResourceModifiedError):
        client.get_configuration_setting(p + "a", etag=first.etag, match_condition=exact)


@scenario()
def list_with_every_filter(client, p):
    put(client, p + "a1")
    put(client, p + "a1", label="prod", tags={"env": "prod", "team": "x"})
    put(client, p + "a2", label="dev", tags={"env": "dev", "team": "x", "empty": ""})
    put(client, p + "b1", label="prod-eu", tags={"env": "prod"})
    put(client, p + "c,*\\", label="l,*\\")

    def listed(**filters):
        return keys(client.list_configuration_settings(**filters))

    a1, a1_prod, a2, b1, odd = (
        (p + "a1", None),
        (p + "a1", "prod"),
        (p + "a2", "dev"),
        (p + "b1", "prod-eu"),
        (p + "c,*\\", "l,*\\"),
    )
    equal(listed(key_filter=p + "*"), [a1, a1_prod, a2, b1, odd])
    equal(listed(key_filter=p + "a1"), [a1, a1_prod])
    equal(listed(key_filter=p + "a*"), [a1, a1_prod, a2])
    equal(listed(key_filter=f"{p}a1,{p}b1"), [a1, a1_prod, b1])
    equal(listed(key_filter=p + "*", label_filter=NO_LABEL), [a1])
    equal(listed(key_filter=p + "*", label_filter="prod"), [a1_prod])
    equal(listed(key_filter=p + "*", label_filter="prod*"), [a1_prod, b1])
    equal(listed(key_filter=p + "*", label_filter="dev,\0"), [a1, a2])
    equal(listed(key_filter=p + "*", label_filter="*"), [a1, a1_prod, a2, b1, odd])
    equal(listed(key_filter=p + "c\\,\\*\\\\", label_filter="l\\,\\*\\\\"), [odd])
    equal(listed(key_filter=p + "*", tags_filter=["env=prod"]), [a1_prod, b1])
    equal(listed(key_filter=p + "*", tags_filter=["env=prod", "team=x"]), [a1_prod])
    equal(listed(key_filter=p + "*", tags_filter=["empty="]), [a2])
    equal(listed(key_filter=p + "none*"), [])


@scenario()
def list_refuses_a_malformed_filter(client, p):
    for filters in [dict(key_filter="a*b"), dict(key_filter="a,b,c,d,e,f"), dict(tags_filter=["a=b=c"])]:
        with raises(HttpResponseError) as raised:
            list(client.list_configuration_settings(**filters))
        equal(raised.value.status_code, 400)


@scenario()
def list_selected_fields(client, p):
    put(client, p + "a", "1", label="prod", tags={"x": "y"})
    [only] = client.list_configuration_settings(key_filter=p + "*", fields=["key", "value", "read_only"])
    equal((only.key, only.value, only.read_only), (p + "a", "1", False))
    equal((only.etag, only.last_modified), (None, None))


@scenario()
def list_pages_with_etags(client, p):
    for number in range(250):
        put(client, f"{p}{number:03}", "1")

    def pages(match_conditions=None):
        return client.list_configuration_settings(key_filter=p + "*").by_page(match_conditions=match_conditions)

    collected, sizes = [], []
    iterator = pages()
    for page in iterator:
        sizes.append(len(list(page)))
        collected.append(iterator.etag)
    equal(sizes, [100, 100, 50])
    equal(len(set(collected)), 3)

    equal([keys(page) for page in pages(collected)], [])
    put(client, p + "249", "2")
    [changed] = [list(page) for page in pages(collected)]
    equal((changed[0].key, changed[-1].value), (p + "200", "2"))
    put(client, p + "000", "2")
    equal([list(page)[0].key for page in pages(collected)], [p + "000", p + "200"])

    seen = []
    iterator = client.check_configuration_settings(key_filter=p + "*").by_page()
    for _page in iterator:
        seen.append(iterator.etag)
    equal((len(seen), seen[1]), (3, collected[1]))


@scenario()
def set_and_set_again(client, p):
    first = put(client, p + "a", "1", tags={"x": "y"})
    equal(put(client, p + "a", "1", tags={"x": "y"}).etag, first.etag)
    second = put(client, p + "a", "2", tags={"x": "y"})
    assert second.etag != first.etag
    with_typed = FeatureFlagConfigurationSetting(p + "flag", enabled=True)
    equal(client.set_configuration_setting(with_typed).enabled, True)
    secret = SecretReferenceConfigurationSetting(p + "secret", "https://vault.example/secrets/a")
    equal(client.set_configuration_setting(secret).secret_id, "https://vault.example/secrets/a")


@scenario()
def set_more_than_the_size_limit(client, p):
    with raises(HttpResponseError) as raised:
        put(client, p + "large", "x" * 11 * 1024)
    equal(raised.value.status_code, 413)


@scenario()
def add(client, p):
    setting = ConfigurationSetting(key=p + "a", value="1")
    equal(client.add_configuration_setting(setting).value, "1")
    with raises(ResourceExistsError):
        client.add_configuration_setting(setting)


@scenario()
def set_if_match(client, p):
    first = put(client, p + "a", "1")
    first.value = "2"
    second = client.set_configuration_setting(first, match_condition=MatchConditions.IfNotModified)
    equal(second.value, "2")
    with raises(ResourceModifiedError):
        client.set_configuration_setting(first, match_condition=MatchConditions.IfNotModified)
    missing = ConfigurationSetting(key=p + "missing", value="x")
    with raises(ResourceNotFoundError):
        client.set_configuration_setting(missing, match_condition=MatchConditions.IfPresent)
    with raises(ResourceExistsError):
        client.set_configuration_setting(second, match_condition=MatchConditions.IfMissing)
    equal(client.get_configuration_setting(p + "a").etag, second.etag)


@scenario()
def delete(client, p):
    written = put(client, p + "a", "1")
    deleted = client.delete_configuration_setting(p + "a")
    equal((deleted.value, deleted.etag), ("1", written.etag))
    equal(client.delete_configuration_setting(p + "a"), None)
    with raises(ResourceNotFoundError):
        client.get_configuration_setting(p + "a")
    again = put(client, p + "a", "2")
    stale = dict(etag=written.etag, match_condition=MatchConditions.IfNotModified)
    with raises(ResourceModifiedError):
        client.delete_configuration_setting(p + "a", **stale)
    exact = dict(etag=again.etag, match_condition=MatchConditions.IfNotModified)
    equal(client.delete_configuration_setting(p + "a", **exact).value, "2")


@scenario()
def lock_and_unlock(client, p):
    written = put(client, p + "a", "1")
    locked = client.set_read_only(written)
    equal(locked.read_only, True)
    assert locked.etag != written.etag
    equal(client.set_read_only(locked).etag, locked.etag)
    with raises(ResourceReadOnlyError):
        put(client, p + "a", "2")
    with raises(ResourceReadOnlyError):
        client.delete_configuration_setting(p + "a")
    unlocked = client.set_read_only(locked, False, match_condition=MatchConditions.IfNotModified)
    equal(unlocked.read_only, False)
    with raises(ResourceModifiedError):
        client.set_read_only(locked, True, match_condition=MatchConditions.IfNotModified)
    equal(put(client, p + "a", "2").value, "2")
    with raises(ResourceNotFoundError):
        client.set_read_only(ConfigurationSetting(key=p + "missing"))


@scenario()
def revisions_newest_first(client, p):
    for value in ["1", "2", "3"]:
        put(client, p + "a", value, label="prod", tags={"turn": value})
    client.delete_configuration_setting(p + "a", label="prod")
    equal([r.value for r in client.list_revisions(key_filter=p + "a")], ["3", "2", "1"])
    equal([r.value for r in client.list_revisions(key_filter=p + "*", tags_filter=["turn=2"])], ["2"])
    equal(list(client.list_revisions(key_filter=p + "a", label_filter=NO_LABEL)), [])
    [first, *_] = client.list_revisions(key_filter=p + "a", label_filter="prod", fields=["value"])
    equal((first.value, first.key), ("3", None))


@scenario()
def labels(client, p):
    for label in [p + "1", p + "2", "other" + p]:
        put(client, p + "a", label=label)
    equal([label.name for label in client.list_labels(name=p + "*")], [p + "1", p + "2"])
    equal([label.name for label in client.list_labels(name=p + "2")], [p + "2"])
    put(client, p + "a")
    assert None in [label.name for label in client.list_labels()]


@scenario()
def snapshots(client, p):
    for key in ["a", "b"]:
        put(client, p + key, "before", label="prod")
    name = p.rstrip(":")
    poller = client.begin_create_snapshot(
        name,
        [ConfigurationSettingsFilter(key=p + "*", label="prod")],
        retention_period=3600,
        tags={"x": "y"},
        polling_interval=0.1,
    )
    created = poller.result(timeout=60)
    equal((created.name, created.status, created.items_count), (name, "ready", 2))
    equal((created.retention_period, created.tags, created.composition_type), (3600, {"x": "y"}, "key"))
    put(client, p + "a", "after", label="prod")
    content = list(client.list_configuration_settings(snapshot_name=name))
    equal([(s.key, s.value) for s in content], [(p + "a", "before"), (p + "b", "before")])
    with raises(HttpResponseError) as raised:
        client.begin_create_snapshot(name, [ConfigurationSettingsFilter(key=p + "*")], polling_interval=0.1)
    equal(raised.value.status_code, 409)

    got = client.get_snapshot(name)
    equal((got.status, got.filters[0].label), ("ready", "prod"))
    archived = client.archive_snapshot(name, etag=got.etag, match_condition=MatchConditions.IfNotModified)
    equal(archived.status, "archived")
    assert archived.expires is not None
    equal([s.name for s in client.list_snapshots(name=name, status=["archived"])], [name])
    equal([s.name for s in client.list_snapshots(name=name, status=["ready"])], [])
    equal(len(list(client.list_configuration_settings(snapshot_name=name))), 2)
    with raises(ResourceModifiedError):
        client.recover_snapshot(name, etag=got.etag, match_condition=MatchConditions.IfNotModified)
    equal(client.recover_snapshot(name).status, "ready")
    equal([s.name for s in client.list_snapshots(name=p[:-1] + "*", status=["ready", "failed"])], [name])
    with raises(ResourceNotFoundError):
        client.get_snapshot(name + "-missing")


@scenario()
def time_travel(client, p):
    put(client, p + "a", "before")
    time.sleep(1.1)  # the header counts in seconds for some clients: the two states need one between them
    between = datetime.datetime.now(datetime.timezone.utc)
    time.sleep(1.1)
    put(client, p + "a", "after")
    put(client, p + "b", "after")
    equal(client.get_configuration_setting(p + "a", accept_datetime=between).value, "before")
    as_http_date = between.strftime("%a, %d %b %Y %H:%M:%S GMT")
    past = client.list_configuration_settings(key_filter=p + "*", accept_datetime=between)
    equal([(s.key, s.value) for s in past], [(p + "a", "before")])
    equal(client.get_configuration_setting(p + "a", accept_datetime=as_http_date).value, "before")
    equal(client.get_configuration_setting(p + "a").value, "after")
    with raises(ResourceNotFoundError):
        client.get_configuration_setting(p + "b", accept_datetime=between)


if __name__ == "__main__":
    with connect(AzureAppConfigurationClient) as shared:
        run_all(lambda function, prefix: function(shared, prefix))
