"""azure-appconfiguration-provider: what applications really run. Loading, refreshing, and what a refresh costs."""

from azure.appconfiguration import (
    AzureAppConfigurationClient,
    ConfigurationSetting,
    ConfigurationSettingsFilter,
    FeatureFlagConfigurationSetting,
)
from azure.appconfiguration.provider import SettingSelector, WatchKey, load
from scenario import access, connect, counted, equal, eventually, faults, run_all, scenario

GET_ONE, GET_LIST = "GET /kv/{key}", "GET /kv"


def put(client, key, value, label=None, **fields):
    return client.set_configuration_setting(ConfigurationSetting(key=key, value=value, label=label, **fields))


def loaded(prefix, **options):
    """A provider of everything under `prefix`, whose refresh interval is the shortest that it allows."""
    options.setdefault("selects", [SettingSelector(key_filter=prefix + "*")])
    return load(
        **access(),
        trim_prefixes=[prefix],
        replica_discovery_enabled=False,
        refresh_interval=1,
        startup_timeout=20,
        **options,
    )


def refreshed_to(provider, key, value):
    """A condition: refreshing has brought `value`."""

    def refreshed():
        provider.refresh()
        return provider.get(key) == value

    return refreshed


@scenario()
def load_with_selectors_labels_and_json(client, p):
    put(client, p + "a", "none")
    put(client, p + "a", "prod", label="prod")
    put(client, p + "json", '{"x": [1, 2]}', content_type="application/json")
    put(client, p + "tagged", "yes", tags={"env": "dev"})
    with loaded(p) as provider:
        equal((provider["a"], provider["json"], len(provider)), ("none", {"x": [1, 2]}, 3))
    labelled = [SettingSelector(key_filter=p + "*"), SettingSelector(key_filter=p + "*", label_filter="prod")]
    with loaded(p, selects=labelled) as provider:
        equal(provider["a"], "prod")
    with loaded(p, selects=[SettingSelector(key_filter=p + "*", tag_filters=["env=dev"])]) as provider:
        equal(dict(provider), {"tagged": "yes"})


@scenario()
def load_more_than_a_page(client, p):
    for number in range(210):
        put(client, f"{p}{number}", str(number))
    with loaded(p) as provider:
        equal((len(provider), provider["209"]), (210, "209"))


@scenario()
def load_a_snapshot(client, p):
    put(client, p + "a", "before")
    name = p.rstrip(":")
    filters = [ConfigurationSettingsFilter(key=p + "*")]
    client.begin_create_snapshot(name, filters, polling_interval=0.1).result(timeout=60)
    put(client, p + "a", "after")
    with loaded(p, selects=[SettingSelector(snapshot_name=name)]) as provider:
        equal(provider["a"], "before")


@scenario()
def refresh_on_a_watched_key(client, p):
    put(client, p + "a", "1")
    put(client, p + "sentinel", "1")
    with loaded(p, refresh_on=[WatchKey(p + "sentinel")]) as provider:
        equal(provider["a"], "1")
        put(client, p + "a", "2")
        put(client, p + "sentinel", "2")
        eventually(refreshed_to(provider, "a", "2"))


@scenario()
def refresh_by_page_etags(client, p):
    for number in range(101):
        put(client, f"{p}{number:03}", "1")
    with loaded(p, refresh_enabled=True) as provider:
        put(client, p + "100", "2")
        eventually(refreshed_to(provider, "100", "2"))
        client.delete_configuration_setting(p + "000")
        eventually(refreshed_to(provider, "000", None))


@scenario(target="emulator")
def an_idle_refresh_costs_one_304_a_page(client, p):
    for number in range(101):
        put(client, f"{p}{number:03}", "1")
    with loaded(p, refresh_enabled=True) as provider, counted() as counts:

        def has_polled_both_pages():
            provider.refresh()
            return counts.now().of(GET_LIST) >= 2

        eventually(has_polled_both_pages)
    equal((counts.of(GET_LIST, 304), counts.of(GET_LIST, 200), counts.of(GET_ONE)), (2, 0, 0))


@scenario()
def refresh_feature_flags(client, p):
    flag = p + "beta"
    client.set_configuration_setting(FeatureFlagConfigurationSetting(flag, enabled=False))
    selector = [SettingSelector(key_filter=p + "*")]
    options = dict(feature_flag_enabled=True, feature_flag_refresh_enabled=True, feature_flag_selectors=selector)
    with loaded(p, **options) as provider:

        def enabled():
            provider.refresh()
            return [f["enabled"] for f in provider["feature_management"]["feature_flags"]]

        equal(enabled(), [False])
        client.set_configuration_setting(FeatureFlagConfigurationSetting(flag, enabled=True))

        def flag_is_on():
            return enabled() == [True]

        eventually(flag_is_on)


@scenario()
def load_survives_a_throttled_start(client, p):
    put(client, p + "a", "1")
    throttle = {"kind": "throttle", "retry_after": "50ms"}
    with faults({"path": "/kv", "count": 1, "do": throttle}), loaded(p) as provider:
        equal(provider["a"], "1")


if __name__ == "__main__":
    with connect(AzureAppConfigurationClient) as shared:
        run_all(lambda function, prefix: function(shared, prefix))
