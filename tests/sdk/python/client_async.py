"""azure-appconfiguration, asynchronous: the same API over another transport, which spells every request differently
(reserved characters left raw, `Content-Length: 0` on reads)."""

import asyncio

from azure.appconfiguration import ConfigurationSetting, ConfigurationSettingsFilter, ResourceReadOnlyError
from azure.appconfiguration.aio import AzureAppConfigurationClient
from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from scenario import StaticAsyncCredential, connect, equal, raises, run_all, scenario


async def put(client, key, value="v", label=None, **fields):
    return await client.set_configuration_setting(ConfigurationSetting(key=key, value=value, label=label, **fields))


async def collected(iterator):
    return [item async for item in iterator]


@scenario()
async def get_set_delete(client, p):
    odd, label = p + "a/b c*?é&=+#", "L,*\\x"
    written = await put(client, odd, "héllo", label=label, tags={"a": "b"})
    got = await client.get_configuration_setting(odd, label=label)
    equal((got.value, got.etag, got.tags), ("héllo", written.etag, {"a": "b"}))
    same = dict(etag=got.etag, match_condition=MatchConditions.IfModified)
    equal(await client.get_configuration_setting(odd, label=label, **same), None)
    with raises(ResourceExistsError):
        await client.add_configuration_setting(got)
    got.value = "2"
    await client.set_configuration_setting(got, match_condition=MatchConditions.IfNotModified)
    with raises(ResourceModifiedError):
        await client.set_configuration_setting(got, match_condition=MatchConditions.IfNotModified)
    equal((await client.delete_configuration_setting(odd, label=label)).value, "2")
    equal(await client.delete_configuration_setting(odd, label=label), None)
    with raises(ResourceNotFoundError):
        await client.get_configuration_setting(odd, label=label)


@scenario()
async def concurrent_calls_share_the_client(client, p):
    await asyncio.gather(*(put(client, f"{p}{number}", str(number)) for number in range(40)))
    got = await asyncio.gather(*(client.get_configuration_setting(f"{p}{number}") for number in range(40)))
    equal([setting.value for setting in got], [str(number) for number in range(40)])


@scenario()
async def list_pages_with_etags(client, p):
    await asyncio.gather(*(put(client, f"{p}{number:03}", "1") for number in range(150)))

    def pages(etags=None):
        return client.list_configuration_settings(key_filter=p + "*").by_page(match_conditions=etags)

    etags, sizes = [], []
    iterator = pages()
    async for page in iterator:
        sizes.append(len(await collected(page)))
        etags.append(iterator.etag)
    equal(sizes, [100, 50])
    equal(await collected(pages(etags)), [])
    await put(client, p + "149", "2")
    [changed] = await collected(pages(etags))
    equal([s.value for s in await collected(changed)][-1], "2")


@scenario()
async def list_with_filters(client, p):
    await put(client, p + "a", label="prod", tags={"env": "d v"})
    await put(client, p + "b", label="dev")
    listed = client.list_configuration_settings(
        key_filter=p + "*", label_filter="prod,dev", tags_filter=["env=d v"], fields=["key", "value"]
    )
    equal([(s.key, s.label) for s in await collected(listed)], [(p + "a", None)])
    everything = client.list_configuration_settings(key_filter=p + "*", label_filter="*")
    equal([s.label for s in await collected(everything)], ["prod", "dev"])


@scenario()
async def lock_revisions_labels(client, p):
    written = await put(client, p + "a", "1", label=p + "x")
    locked = await client.set_read_only(written)
    with raises(ResourceReadOnlyError):
        await put(client, p + "a", "2", label=p + "x")
    equal((await client.set_read_only(locked, False)).read_only, False)
    await put(client, p + "a", "2", label=p + "x")
    values = [revision.value for revision in await collected(client.list_revisions(key_filter=p + "a"))]
    equal((values[0], values[-1]), ("2", "1"))
    equal([label.name for label in await collected(client.list_labels(name=p + "*"))], [p + "x"])


@scenario()
async def snapshot(client, p):
    await put(client, p + "a", "1")
    name = p.rstrip(":")
    filters = [ConfigurationSettingsFilter(key=p + "*")]
    poller = await client.begin_create_snapshot(name, filters, polling_interval=0.1)
    equal((await poller.result()).status, "ready")
    content = client.list_configuration_settings(snapshot_name=name)
    equal([setting.value for setting in await collected(content)], ["1"])
    equal((await client.archive_snapshot(name)).status, "archived")
    equal((await client.recover_snapshot(name)).status, "ready")


def call(function, prefix):
    async def with_client():
        async with connect(AzureAppConfigurationClient, StaticAsyncCredential) as client:
            await asyncio.wait_for(function(client, prefix), 60)

    asyncio.run(with_client())


if __name__ == "__main__":
    run_all(call)
