/** Whatever a client sends, the session answers the next command, and nothing else happens. */
import test from 'ava';
import fc from 'fast-check';
import { TestClient } from './client.test.helper.js';
import { formatJson } from './json/format.js';
import { parseJson } from './json/parse.js';
import { FakeTarget } from './target.test.helper.js';

const COMMANDS = [
  '{"execute": "query-pci", "id": [1, "x", null]}',
  '{"execute": "qom-list", "arguments": {"path": "/machine/peripheral/w0"}}',
  "{'execute': 'qom-set', 'arguments': {'path': 'w0', 'property': 'speed', 'value': 2}}",
  '{"execute": "human-monitor-command", "arguments": {"command-line": "info qtree"}}',
];
const PIECES = ['{', '}', '[', ']', ',', ':', '"', "'", '\\', '\n', '\u0000', '\xff', '1e9', 'null', 'é', ' '];

/** A command with pieces put in, taken out or doubled. */
const almost = fc
  .tuple(
    fc.constantFrom(...COMMANDS),
    fc.array(fc.tuple(fc.nat(), fc.nat(12), fc.constantFrom(...PIECES)), { maxLength: 6 }),
  )
  .map(([command, edits]) =>
    edits.reduce((text, [where, length, piece]) => {
      const at = where % (text.length + 1);
      return text.slice(0, at) + piece + text.slice(at + length);
    }, command),
  );
const anything = fc.oneof(
  almost.map(text => Buffer.from(text, 'latin1')),
  fc.uint8Array({ maxLength: 64 }).map(bytes => Buffer.from(bytes)),
);

test('after whatever was sent, the next command is answered', async t => {
  const target = new FakeTarget();
  await fc.assert(
    fc.asyncProperty(fc.array(anything, { maxLength: 4 }), async sent => {
      const client = await TestClient.ready(target);
      for (const bytes of sent) await client.tell(bytes);
      const messages = await client.ask(Buffer.from('\xff{"execute": "query-name", "id": "end"}\n', 'latin1'));
      t.deepEqual(messages.at(-1), { return: { name: 'fake' }, id: 'end' });
      for (const { error } of messages) if (error !== undefined) t.not(error.desc, '');
      client.session[Symbol.dispose]();
    }),
    { numRuns: 150, seed: 1 },
  );
  t.is(target.listeners, 0);
  t.deepEqual(target.log, []);
});

test('JSON goes in and out as it is', t => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 6 }), value => {
      const text = JSON.stringify(value);
      t.deepEqual(JSON.parse(formatJson(parseJson(text, 64))), JSON.parse(text));
    }),
    { numRuns: 300, seed: 1 },
  );
});
