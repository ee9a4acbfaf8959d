import test from 'ava';
import { FlatTarget } from './flat-target.test.helper.js';
import { QtestSession } from './session.js';

interface Bench {
  readonly target: FlatTarget;
  readonly told: string[];
  say(line: string): string;
}

function bench(target = new FlatTarget()): Bench {
  const told: string[] = [];
  const session = new QtestSession(target, line => told.push(line));
  return { target, told, say: line => session.execute(line) };
}

test('endianness', t => {
  const { say, target } = bench();
  t.is(say('endianness'), 'OK little');
  target.endianness = 'big';
  t.is(say('endianness'), 'OK big');
});

test('every width is stored and fetched in its own bytes only', t => {
  for (const [letter, size] of [
    ['b', 1],
    ['w', 2],
    ['l', 4],
    ['q', 8],
  ] as const) {
    const { say, target } = bench();
    target.bytes.fill(0xaa, 0, 32);
    t.is(say(`write${letter} 0x10 0x1122334455667788`), 'OK');
    const little = [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11].slice(0, size);
    t.deepEqual([...target.bytes.subarray(15, 17 + size)], [0xaa, ...little, 0xaa]);
    t.is(say(`read${letter} 0x10`), `OK 0x${'1122334455667788'.slice(-2 * size).padStart(16, '0')}`);
    target.endianness = 'big';
    t.is(say(`write${letter} 0x10 0x1122334455667788`), 'OK');
    t.deepEqual([...target.bytes.subarray(16, 16 + size)], little.toReversed());
    t.is(say(`read${letter} 0x10`), `OK 0x${'1122334455667788'.slice(-2 * size).padStart(16, '0')}`);
  }
});

test('addresses have 64 bits', t => {
  const { say, target } = bench(new FlatTarget(0x1234_5678_9000));
  t.is(say('writel 0x123456789004 0xcafef00d'), 'OK');
  t.is(say('readl 0x123456789004'), 'OK 0x00000000cafef00d');
  t.is(target.bytes[4], 0x0d);
  t.is(say('readl 0xffffffff56789004'), 'OK 0x0000000000000000');
});

test('ports: values are as wide as the command, replies have four digits at least', t => {
  const { say, target } = bench();
  t.is(say('inb 0x71'), 'OK 0x0071');
  t.is(say('inw 0x1234'), 'OK 0x1234');
  t.is(say('inl 0xffff'), 'OK 0xffffffff');
  t.deepEqual([say('outb 0x10 0x1ff'), say('outw 17 0x1ffff'), say('outl 0x12 -1')], ['OK', 'OK', 'OK']);
  t.deepEqual(target.written, ['10/1=ff', '11/2=ffff', '12/4=ffffffff']);
  t.regex(say('inb 0x10000'), /^FAIL .*0x10000/);
  t.regex(say('outb 0x10000 0'), /^FAIL /);
  t.is(target.written.length, 3);
});

test('blocks as hexadecimal text', t => {
  const { say, target } = bench();
  t.is(say('write 0x20 0x4 0x0102a0FF'), 'OK');
  t.is(say('read 0x1f 6'), 'OK 0x000102a0ff00');
  t.is(say('write 0x20 0x3 0x99'), 'OK', 'short data is filled up with zeroes');
  t.is(say('read 0x20 4'), 'OK 0x990000ff');
  t.is(say('write 0x20 1 0x112233'), 'OK', 'long data is cut off');
  t.is(say('read 0x20 2'), 'OK 0x1100');
  t.is(say('write 0x20 2 0x337'), 'OK', 'half a byte is none');
  t.is(say('read 0x20 2'), 'OK 0x3300');
  for (const data of ['zzz', '0xzz', '0x12g4', '']) t.regex(say(`write 0x20 4 ${data}`), /^FAIL /, data);
  for (const data of ['0x', '12']) t.is(say(`write 0x20 4 ${data}`), 'ERR invalid argument size');
  t.is(target.bytes[0x20], 0x33);
});

test('blocks as base64', t => {
  const { say } = bench();
  t.is(say('b64write 0x30 3 3q2+'), 'OK');
  t.is(say('b64read 0x30 4'), 'OK 3q2+AA==');
  t.is(say('read 0x30 3'), 'OK 0xdeadbe');
  t.is(say('b64write 0x30 3 AA=='), 'OK', 'what there is is stored');
  t.is(say('read 0x30 3'), 'OK 0x00adbe');
  t.is(say('b64write 0x30 1 ////'), 'OK');
  t.is(say('read 0x30 3'), 'OK 0xffadbe');
  for (const data of ['*', 'ab=c', '']) t.regex(say(`b64write 0x30 3 ${data}`), /^FAIL /, data);
});

test('memset', t => {
  const { say, target } = bench();
  t.is(say('memset 0x100 0x3 0x1ab'), 'OK');
  t.deepEqual([...target.bytes.subarray(0xff, 0x104)], [0, 0xab, 0xab, 0xab, 0]);
});

test('lengths of nothing and of gibibytes are refused, and nothing is touched', t => {
  const { say, target } = bench();
  for (const length of ['0', '0x80000000', '0xffffffffffffffff', '0x1000001']) {
    t.regex(say(`read 0x0 ${length}`), /^FAIL /);
    t.regex(say(`write 0x0 ${length} 0xff`), /^FAIL /);
    t.regex(say(`b64read 0x0 ${length}`), /^FAIL /);
    t.regex(say(`b64write 0x0 ${length} /w==`), /^FAIL /);
  }
  for (const length of ['0', '0x80000000']) t.regex(say(`memset 0x0 ${length} 0xff`), /^FAIL /);
  t.true(target.bytes.every(byte => byte === 0));
});

test("numbers are C's, up to 64 bits", t => {
  const { say } = bench(new FlatTarget());
  const stored = (text: string): string => {
    const reply = say(`writeq 0 ${text}`);
    return reply === 'OK' ? say('readq 0').slice(5) : reply.slice(0, 4);
  };
  t.is(stored('0x0'), '0000000000000000');
  t.is(stored('017'), '000000000000000f');
  t.is(stored('18446744073709551615'), 'ffffffffffffffff');
  t.is(stored('0000000000000000000000017'), '000000000000000f');
  t.is(stored('-1'), 'ffffffffffffffff');
  t.is(stored('-0x100000000'), 'ffffffff00000000');
  t.is(stored('+0XfFffFfffFFFFFFF0'), 'fffffffffffffff0');
  const bad = ['18446744073709551616', '0x10000000000000000', '08', '0x', 'x', '1.5', '1e3', '--1', 'Infinity'];
  for (const text of [...bad, '9'.repeat(1000)]) t.is(stored(text), 'FAIL', text.slice(0, 30));
});

test('time moves as told, or to the next timer; FAIL tells that it did not', t => {
  const { say, target } = bench();
  target.clock.timers = [500, 900];
  t.is(say('clock_step 100'), 'OK 100');
  t.is(say('clock_step'), 'OK 500');
  t.is(say('clock_step'), 'OK 900');
  t.is(say('clock_step'), 'FAIL 900');
  t.is(say('clock_step 0'), 'FAIL 900');
  t.is(say('clock_set 1000'), 'OK 1000');
  t.is(say('clock_set 999'), 'FAIL 1000');
  t.regex(say('clock_step 0xffffffffffffffff'), /^FAIL /);
  t.is(target.clock.now, 1000);
});

test('interrupt lines are told of once they are intercepted, each change once', t => {
  const { say, told } = bench();
  t.is(say('set_irq_in ioapic unnamed-gpio-in 1 1'), 'OK');
  t.deepEqual(told, []);
  t.is(say('irq_intercept_in ioapic'), 'OK');
  t.is(say('set_irq_in ioapic unnamed-gpio-in 1 1'), 'OK');
  t.is(say('set_irq_in ioapic unnamed-gpio-in 3 1'), 'OK');
  t.is(say('set_irq_in ioapic unnamed-gpio-in 3 0'), 'OK');
  t.deepEqual(told, ['IRQ raise 3', 'IRQ lower 3']);
  t.is(say('irq_intercept_in ioapic'), 'OK', 'again');
  t.is(say('irq_intercept_out ioapic out'), 'OK', 'the same device');
  t.is(say('set_irq_in ioapic unnamed-gpio-in 1 0'), 'OK');
  t.deepEqual(told.splice(0), ['IRQ raise 3', 'IRQ lower 3', 'IRQ lower 1']);
  t.is(say('irq_intercept_in deaf'), 'FAIL IRQ intercept already enabled');
});

test('named outputs are lines, too', t => {
  const { say, told } = bench();
  t.is(say('irq_intercept_out ioapic out'), 'OK');
  say('set_irq_in ioapic unnamed-gpio-in 0 1');
  t.deepEqual(told, ['IRQ raise 0']);
});

test('lines that are not there', t => {
  const { say, target } = bench();
  t.is(say('irq_intercept_in nowhere'), 'FAIL Unknown device');
  t.is(say('set_irq_in nowhere unnamed-gpio-in 0 1'), 'FAIL Unknown device');
  for (const line of [
    'irq_intercept_in deaf',
    'irq_intercept_out ioapic',
    'set_irq_in ioapic other 0 1',
    'set_irq_in ioapic unnamed-gpio-in 4 1',
    'set_irq_in ioapic unnamed-gpio-in -1 1',
  ]) {
    t.regex(say(line), /^FAIL /, line);
  }
  t.true(target.levels.every(level => level === 0));
  t.is(target.watchers.size, 0);
});

test('the watch ends with the session', t => {
  const target = new FlatTarget();
  const session = new QtestSession(target, () => undefined);
  session.execute('irq_intercept_in ioapic');
  t.is(target.watchers.size, 1);
  session[Symbol.dispose]();
  t.is(target.watchers.size, 0);
});

test('module_load', t => {
  const { say } = bench();
  t.is(say('module_load hw- known'), 'OK');
  t.regex(say('module_load hw- other'), /^FAIL /);
});

test('unknown commands and wrong numbers of arguments', t => {
  const { say } = bench();
  t.is(say('reboot now'), "FAIL Unknown command 'reboot'");
  t.is(say(''), "FAIL Unknown command ''");
  t.is(say('READB 0'), "FAIL Unknown command 'READB'");
  t.is(say('constructor'), "FAIL Unknown command 'constructor'");
  t.is(say('\u0007'.repeat(200)), `FAIL Unknown command '${'?'.repeat(40)}...'`);
  t.is(say('readb'), 'FAIL readb takes 1 arguments, not 0');
  t.is(say('clock_step 1 2'), 'FAIL clock_step takes 0 to 1 arguments, not 2');
  t.is(say('  endianness  '), 'OK little', 'spaces may be doubled');
});
