import { duplexPair } from './duplex-pair.test.helper.js';
import test from 'ava';
import { FlatTarget } from './flat-target.test.helper.js';
import { serveQtest } from './server.js';

const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve));

test('replies follow one another in order, however the bytes were cut', async t => {
  const [server, client] = duplexPair();
  const target = new FlatTarget();
  const served = serveQtest(server, target);
  t.teardown(() => served[Symbol.dispose]());
  const script = 'endianness\nwriteb 0x1 0x22\nreadb 0x1\nbogus\nread 0 4\n';
  const expected = "OK little\nOK\nOK 0x0000000000000022\nFAIL Unknown command 'bogus'\nOK 0x00220000\n";
  let got = '';
  client.on('data', (chunk: Buffer) => (got += chunk.toString()));
  for (const character of script) client.write(character);
  for (let i = 0; i < 200 && got.length < expected.length; i++) await turn();
  t.is(got, expected);
  got = '';
  client.write(script);
  for (let i = 0; i < 200 && got.length < expected.length; i++) await turn();
  t.is(got, expected);
});

test('half a line at the end is not carried out; the end is told of once, and the session closed', async t => {
  const [server, client] = duplexPair();
  const target = new FlatTarget();
  let ended = 0;
  using served = serveQtest(server, target, { ended: () => ended++ });
  client.resume();
  client.write('irq_intercept_in ioapic\n');
  client.end('writeb 0x1 0x22');
  for (let i = 0; i < 50 && ended === 0; i++) await turn();
  t.is(ended, 1);
  t.is(target.bytes[1], 0);
  t.is(target.watchers.size, 0);
  served[Symbol.dispose]();
  t.is(ended, 1);
});

test('a client that takes no replies is read no further', async t => {
  const [server, client] = duplexPair();
  let carriedOut = 0;
  const served = serveQtest(server, new FlatTarget(), {
    log: direction => void (carriedOut += Number(direction === 'R')),
  });
  t.teardown(() => served[Symbol.dispose]());
  client.write('read 0 0x100000\n'.repeat(20));
  for (let i = 0; i < 50; i++) await turn();
  t.true(carriedOut < 5, `${carriedOut}`);
  let taken = 0;
  client.on('data', (chunk: Buffer) => (taken += chunk.length));
  const reply = 'OK 0x'.length + 0x20_0000 + 1;
  for (let i = 0; i < 5000 && taken < 20 * reply; i++) await turn();
  t.is(taken, 20 * reply);
});

test('garbage of every kind gets one reply a line, and the target goes on', async t => {
  const [server, client] = duplexPair();
  const target = new FlatTarget();
  const served = serveQtest(server, target);
  t.teardown(() => served[Symbol.dispose]());
  let got = '';
  client.on('data', (chunk: Buffer) => (got += chunk.toString('latin1')));
  const names = ['readb', 'writeq', 'read', 'write', 'b64write', 'memset', 'outl', 'clock_step', 'set_irq_in', '\0'];
  const words = ['0x10', '-1', '0xffffffffffffffffff', '', '\xff\xfe', 'ioapic', '0x80000000', '99999999999999999999'];
  let state = 12345;
  const pick = <T>(from: readonly T[]): T => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return from[(state >>> 16) % from.length]!;
  };
  let sent = 0;
  for (; sent < 2000; sent++) {
    const line = [pick(names), ...Array.from({ length: pick([0, 1, 2, 3, 4, 5]) }, () => pick(words))].join(' ');
    client.write(Buffer.from(`${line}\n`, 'latin1'));
  }
  client.write('writeb 0x1 0x5a\nreadb 0x1\n');
  for (let i = 0; i < 5000 && got.split('\n').length - 1 < sent + 2; i++) await turn();
  const replies = got.split('\n').filter(line => !line.startsWith('IRQ '));
  t.is(replies.length - 1, sent + 2);
  t.is(replies.at(-2), 'OK 0x000000000000005a');
  t.true(replies.slice(0, -1).every(reply => /^(OK|FAIL|ERR)/.test(reply)));
});

test('a log has every line that passes', async t => {
  const [server, client] = duplexPair();
  const log: string[] = [];
  const served = serveQtest(server, new FlatTarget(), { log: (direction, line) => log.push(`${direction} ${line}`) });
  t.teardown(() => served[Symbol.dispose]());
  client.resume();
  client.write('endianness\n');
  for (let i = 0; i < 50 && log.length < 2; i++) await turn();
  t.deepEqual(log, ['R endianness', 'S OK little']);
});
