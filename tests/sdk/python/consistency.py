"""azure-appconfiguration against a store whose replicas lag by half a minute: tokens alone make the difference between the
old state and the new one, so every outcome here is certain."""

from azure.appconfiguration import AzureAppConfigurationClient, ConfigurationSetting
from azure.core.exceptions import ResourceNotFoundError
from scenario import CONNECTION_STRING, equal, raises, run_all, scenario


def new_client():
    return AzureAppConfigurationClient.from_connection_string(CONNECTION_STRING)


def put(client, key, value):
    """Sets a key-value; the token that the answer carries."""
    tokens = []
    client.set_configuration_setting(
        ConfigurationSetting(key=key, value=value),
        raw_response_hook=lambda response: tokens.append(response.http_response.headers["Sync-Token"]),
    )
    return tokens[-1]


@scenario()
def a_client_reads_its_own_writes(client, p):
    tokens = set()
    for turn in range(20):
        tokens.add(put(client, p + "a", str(turn)))
        equal(client.get_configuration_setting(p + "a").value, str(turn))
        equal([s.value for s in client.list_configuration_settings(key_filter=p + "*")], [str(turn)])
    equal(len(tokens), 20)
    client.delete_configuration_setting(p + "a")
    with raises(ResourceNotFoundError):
        client.get_configuration_setting(p + "a")


@scenario(target="emulator")
def a_client_without_the_token_sees_the_old_state(client, p):
    put(client, p + "a", "new")
    with new_client() as reader, raises(ResourceNotFoundError):
        reader.get_configuration_setting(p + "a")


@scenario()
def a_token_from_elsewhere_shows_the_new_state(client, p):
    token = put(client, p + "a", "new")
    with new_client() as reader:
        reader.update_sync_token(token)
        equal(reader.get_configuration_setting(p + "a").value, "new")


@scenario(target="sidecar")
def every_client_reads_the_writes_of_all(client, p):
    """What the sidecar adds: no client has to be told."""
    with new_client() as reader:
        for turn in range(20):
            put(client, p + "a", str(turn))
            equal(reader.get_configuration_setting(p + "a").value, str(turn))
            equal([s.value for s in reader.list_configuration_settings(key_filter=p + "*")], [str(turn)])


if __name__ == "__main__":
    with new_client() as shared:
        run_all(lambda function, prefix: function(shared, prefix))
