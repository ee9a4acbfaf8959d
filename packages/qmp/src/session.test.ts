import { Leaks } from '@remora/core';
import test from 'ava';
import { settled, TestClient } from './client.test.helper.js';
import { JSON_LIMITS } from './json/stream.js';
import { FakeTarget } from './target.test.helper.js';

const VERSION = { qemu: { major: 10, minor: 2, micro: 2 }, package: 'test' };
const line = (...commands: object[]): string => commands.map(each => JSON.stringify(each)).join('\n');

test('a greeting comes first; commands only after negotiation, which is once', async t => {
  const client = new TestClient(new FakeTarget());
  await settled();
  t.deepEqual(client.take(), [{ QMP: { version: VERSION, capabilities: ['oob'] } }]);
  t.regex(await client.fail('query-version'), /^CommandNotFound: .*qmp_capabilities/);
  t.regex(await client.fail('no-such-command'), /^CommandNotFound: .*qmp_capabilities/);
  t.regex(await client.fail('qmp_capabilities', { enable: ['flying'] }), /^GenericError: .*'flying'/);
  t.regex(await client.fail('qmp_capabilities', { enable: 'oob' }), /^GenericError: .*'enable', expected: array/);
  t.deepEqual(await client.run('qmp_capabilities'), {});
  t.deepEqual(await client.run('query-version'), VERSION);
  t.regex(await client.fail('qmp_capabilities'), /^CommandNotFound: /);
});

test('an id of any type comes back as it was, with errors too', async t => {
  const client = await TestClient.ready(new FakeTarget());
  for (const id of ['7', '"é"', 'null', 'true', '-1.5', '[1, {"a": []}]', '{"b": "c"}', '18446744073709551615']) {
    await client.tell(`{"execute": "query-name", "id": ${id}} {"execute": "nope", "id": ${id}}`);
    const [reply, refusal] = client.wire.received.split('\r\n');
    const written = id === '"é"' ? '"\\u00e9"' : id;
    t.is(reply, `{"return": {"name": "fake"}, "id": ${written}}`);
    t.regex(refusal!, /^\{"error": \{"class": "CommandNotFound", /);
    t.true(refusal!.endsWith(`, "id": ${written}}`), refusal);
    client.take();
  }
  const [without] = await client.ask('{"execute": "query-name"}');
  t.deepEqual(Object.keys(without!), ['return']);
});

test('what is no request is refused, and the next one answered', async t => {
  const client = await TestClient.ready(new FakeTarget());
  const cases: readonly [string, RegExp][] = [
    ['[1]', /must be a JSON object/],
    ['5', /must be a JSON object/],
    ['null', /must be a JSON object/],
    ['"query-name"', /must be a JSON object/],
    ['{}', /lacks member 'execute'/],
    ['{"execute": 5}', /'execute' must be a string/],
    ['{"execute": "query-name", "arguments": 5}', /'arguments' must be an object/],
    ['{"execute": "query-name", "arguments": null}', /'arguments' must be an object/],
    ['{"execute": "query-name", "control": {}}', /'control' is unexpected/],
    ['{"execute": "query-name",}', /JSON parse error/],
    ['{"execute": "query-name"', /JSON parse error/],
    ['{"execute": "query-na', /JSON parse error/],
    ['}', /JSON parse error/],
    ['query', /JSON parse error/],
    ['['.repeat(5000), /JSON parse error, .*nested/],
    ['{"a":'.repeat(5000), /JSON parse error, .*nested/],
  ];
  for (const [text, expected] of cases) {
    const [refusal, reply, ...more] = await client.ask(`${text}\n{"execute": "query-name"}\n`);
    t.is(refusal?.error?.class, 'GenericError', text.slice(0, 40));
    t.regex(refusal?.error?.desc ?? '', expected);
    t.deepEqual([reply?.return, more], [{ name: 'fake' }, []], text.slice(0, 40));
  }
});

test('a client that waits for its refusal gets it before it ends the line, as qmp-test does', async t => {
  const client = await TestClient.ready(new FakeTarget());
  for (const text of ['{]', '{\u0001', "{'bad \u0001", '%p', '[1.x', "{'execute': 'x', 'id':'\n"]) {
    const refusals = await client.ask(text);
    t.deepEqual(
      refusals.map(({ error }) => error?.class),
      ['GenericError'],
      text,
    );
    const [recovered, ...more] = await client.ask('{"execute": "no-such-cmd"}\n');
    t.deepEqual([recovered?.error?.class, more], ['CommandNotFound', []], text);
  }
});

test('a value of any size is refused where the limit is', async t => {
  const client = await TestClient.ready(new FakeTarget(), { limits: { ...JSON_LIMITS, bytes: 1000 } });
  const replies = await client.ask(`{"execute": "${'x'.repeat(5000)}"}\n{"execute": "query-name"}\n`);
  t.regex(replies[0]?.error?.desc ?? '', /larger than 1000 bytes/);
  t.deepEqual(replies[1]?.return, { name: 'fake' });
  t.is(replies.length, 2);
});

test('several commands in a packet, and one in many', async t => {
  const client = await TestClient.ready(new FakeTarget());
  const many = await client.ask(
    line({ execute: 'query-name', id: 1 }, { execute: 'query-kvm', id: 2 }, { execute: 'x', id: 3 }),
  );
  t.deepEqual(
    many.map(each => each.id),
    [1, 2, 3],
  );
  for (const letter of '{"execute": "query-name", "id": "slow"}') await client.tell(letter);
  t.deepEqual(client.take(), [{ return: { name: 'fake' }, id: 'slow' }]);
});

test('out-of-band execution is there once it was agreed on', async t => {
  const target = new FakeTarget();
  const without = await TestClient.ready(target);
  const [refused] = await without.ask('{"exec-oob": "query-name", "id": 1}');
  t.regex(refused?.error?.desc ?? '', /'exec-oob' is unexpected/);
  const client = new TestClient(target);
  await client.tell('{"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}}');
  client.take();
  const [known, unknown, both] = await client.ask(
    line({ 'exec-oob': 'query-name', id: 1 }, { 'exec-oob': 'nope', id: 2 }, { 'exec-oob': 'a', execute: 'b', id: 3 }),
  );
  t.regex(known?.error?.desc ?? '', /does not support OOB/);
  t.is(unknown?.error?.class, 'CommandNotFound');
  t.regex(both?.error?.desc ?? '', /conflict/);
  t.deepEqual(await client.run('query-name'), { name: 'fake' });
});

test('events have a time stamp, and reach every client that has negotiated', async t => {
  const target = new FakeTarget();
  const [one, two, late] = [await TestClient.ready(target), await TestClient.ready(target), new TestClient(target)];
  await settled();
  late.take();
  t.deepEqual(await one.run('system_reset'), {});
  const event = {
    timestamp: { seconds: 1_700_000_000, microseconds: 123_456 },
    event: 'RESET',
    data: { guest: false, reason: 'host-qmp-system-reset' },
  };
  t.deepEqual(two.take(), [event]);
  t.deepEqual(late.take(), []);
  t.deepEqual(
    (await one.ask('{"execute": "stop"}')).map(each => each.event ?? 'reply'),
    ['STOP', 'reply'],
  );
  t.deepEqual(two.take()[0], { timestamp: event.timestamp, event: 'STOP' });
  t.deepEqual(target.log, ['reset host-qmp-system-reset']);
});

test('device_del is answered before its event', async t => {
  const target = new FakeTarget();
  const [one, two] = [await TestClient.ready(target), await TestClient.ready(target)];
  const messages = await one.ask('{"execute": "device_del", "arguments": {"id": "w0"}}');
  t.deepEqual(
    messages.map(each => each.event ?? each.return),
    [{}, 'DEVICE_DELETED'],
  );
  t.deepEqual(two.take()[0]?.data, { device: 'w0', path: '/machine/peripheral/w0' });
});

test('a fault of the target is an error of the command, and the session goes on', async t => {
  const client = await TestClient.ready(new FakeTarget());
  t.is(await client.fail('device_add', { driver: 'broken' }), 'GenericError: a fault of the target itself');
  t.deepEqual(await client.run('query-name'), { name: 'fake' });
});

test('a client that does not read is not served; when it reads, it gets everything in order', async t => {
  const target = new FakeTarget();
  const client = await TestClient.ready(target);
  client.wire.hold();
  const asked = Array.from({ length: 50 }, (_, id) => ({ execute: 'query-qmp-schema', id }));
  await client.tell(line(...asked, { execute: 'system_reset', id: 'last' }));
  t.deepEqual(target.log, [], 'the last command has not run');
  t.true(client.wire.writableLength < 100_000, `${client.wire.writableLength} bytes wait`);
  target.tell({ event: 'STOP' });
  for (let round = 0; round < 200 && target.log.length === 0; round++) {
    client.wire.release();
    await settled();
  }
  const messages = client.take();
  t.deepEqual(target.log, ['reset host-qmp-system-reset']);
  t.deepEqual(
    messages.flatMap(each => (each.event === undefined ? [each.id] : [])),
    [...asked.map(each => each.id), 'last'],
  );
  t.is(messages.filter(each => each.event === 'STOP').length, 1);
});

test('a client that leaves too much unread loses its connection', async t => {
  const target = new FakeTarget();
  const client = await TestClient.ready(target, { unread: 50_000 });
  client.wire.hold();
  for (let count = 0; count < 2000 && !client.session.closed; count++) target.tell({ event: 'STOP' });
  t.true(client.session.closed);
  t.true(client.wire.destroyed);
  t.is(target.listeners, 0);
});

test('a client may vanish at any moment: nothing stays, others go on', async t => {
  const other = new FakeTarget();
  await Leaks.check(async leaks => {
    for (const said of ['', '{"execute": "query-n', '{"execute": "system_reset"}', '[[[["']) {
      const [leaving, staying] = [await TestClient.ready(other), await TestClient.ready(other)];
      t.is(leaks.open.length, 2);
      await leaving.tell(said);
      leaving.wire.destroy(new Error('connection reset'));
      await settled();
      t.true(leaving.session.closed);
      t.is(other.listeners, 1);
      t.deepEqual(await staying.run('query-name'), { name: 'fake' });
      staying.session[Symbol.dispose]();
      await settled();
      t.true(staying.wire.destroyed);
      t.is(other.listeners, 0);
    }
  });
});

test('a client that closes its side still gets the answers to what it asked', async t => {
  const target = new FakeTarget();
  const client = await TestClient.ready(target);
  client.wire.push('{"execute": "query-name"}\n{"half": ');
  client.wire.push(null);
  await settled();
  t.deepEqual(client.take(), [{ return: { name: 'fake' } }]);
  t.true(client.session.closed);
  t.is(target.listeners, 0);
});
