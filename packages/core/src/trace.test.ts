import { format } from 'node:util';
import test from 'ava';
import createDebug from 'debug';
import { formatTraced, isSelected, Trace, type Traced } from './trace.js';

const DECLARED = { unit_read: ['addr', 'size'], unit_write: ['addr', 'on'], unit_reset: [] } as const;

test('an event is on while somebody watches it, also one of a device that comes later', t => {
  const trace = new Trace();
  const early = trace.points('vm0/early', DECLARED);
  t.false(early.unit_read.on);
  const seen: Traced[] = [];
  const watching = trace.watch(['unit_read'], event => seen.push(event));
  const late = trace.points('vm0/late', DECLARED);
  t.deepEqual(
    [early.unit_read.on, late.unit_read.on, early.unit_write.on, late.unit_write.on],
    [true, true, false, false],
  );
  early.unit_read.emit(0x10, 8);
  late.unit_read.emit(-1, 4);
  watching[Symbol.dispose]();
  watching[Symbol.dispose]();
  t.deepEqual([early.unit_read.on, late.unit_read.on], [false, false]);
  t.deepEqual(seen, [
    { source: 'vm0/early', name: 'unit_read', values: { addr: 0x10, size: 8 } },
    { source: 'vm0/late', name: 'unit_read', values: { addr: -1, size: 4 } },
  ]);
});

test('each watcher sees what it asked for, and one who leaves takes nothing from the others', t => {
  const trace = new Trace();
  const points = trace.points('unit', DECLARED);
  const all: string[] = [];
  const resets: string[] = [];
  const watching = trace.watch(['*'], ({ name }) => all.push(name));
  trace.watch(['*_reset'], ({ name }) => resets.push(name));
  points.unit_reset.emit();
  points.unit_write.emit(0, true);
  watching[Symbol.dispose]();
  t.deepEqual([points.unit_reset.on, points.unit_write.on], [true, false]);
  points.unit_reset.emit();
  t.deepEqual(
    [all, resets],
    [
      ['unit_reset', 'unit_write'],
      ['unit_reset', 'unit_reset'],
    ],
  );
});

test('a device that comes back has the points that it had', t => {
  const trace = new Trace();
  const { unit_read: first } = trace.points('unit', DECLARED);
  t.is(trace.points('unit', DECLARED).unit_read, first);
  t.not(trace.points('other', DECLARED).unit_read, first);
});

test('patterns are taken in order; a dash takes away', t => {
  const chosen = (patterns: string[]): string[] => Object.keys(DECLARED).filter(name => isSelected(patterns, name));
  t.deepEqual(chosen([]), []);
  t.deepEqual(chosen(['unit_*']), ['unit_read', 'unit_write', 'unit_reset']);
  t.deepEqual(chosen(['*', '-*_re*']), ['unit_write']);
  t.deepEqual(chosen(['*', '-*_re*', 'unit_reset']), ['unit_write', 'unit_reset']);
  t.deepEqual(chosen(['-*', 'unit_?ead']), ['unit_read']);
  t.deepEqual(chosen(['unit_read ', 'UNIT_READ', 'unit_rea[d]', 'unit.read', '', '-', '.*']), []);
});

test('as text: numbers without sign, flags as digits', t => {
  const values = { hi: -1, far: 2 ** 40, zero: 0, set: true, clear: false, kind: 'wait', wide: '0x123456789' };
  const shown = formatTraced({ source: 'unit', name: 'unit_read', values });
  t.is(shown, 'unit_read hi=0xffffffff far=0x10000000000 zero=0x0 set=1 clear=0 kind=wait wide=0x123456789');
  t.is(formatTraced({ source: 'unit', name: 'unit_reset', values: {} }), 'unit_reset');
});

test.serial('DEBUG logs the events that it names', t => {
  const lines: string[] = [];
  createDebug.log = (...values: unknown[]) => void lines.push(format(...values));
  createDebug.enable('remora:core:trace:unit_w*');
  const points = new Trace().points('vm0/unit', DECLARED);
  points.unit_write.emit(0x18, true);
  createDebug.disable();
  t.deepEqual([points.unit_read.on, points.unit_write.on, lines.length], [false, true, 1]);
  t.regex(lines[0]!, /remora:core:trace:unit_write.*vm0\/unit unit_write addr=0x18 on=1/s);
});
