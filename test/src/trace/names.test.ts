/** Trace events have the names that QEMU's have, and the documentation says which there are. */
import { readFileSync } from 'node:fs';
import test from 'ava';
import { findQemu } from '../qmp/real-qemu.js';
import { PROGRAM } from '../qtest/program-under-test.js';
import { runSync } from '../rig/processes.js';
import { eventsOf, QEMU_EVENTS } from './qemu-names.js';

const qemu = findQemu();
const ours = eventsOf(process.execPath, [PROGRAM]);
const DOCUMENT = new URL('../../../docs/use-from-qemu-tests.md', import.meta.url);

/** The names in the indented lines of the document between a line and the next heading. */
function listed(after: string): string[] {
  const [, rest = ''] = readFileSync(DOCUMENT, 'utf8').split(after);
  const [text = ''] = rest.split('\n#');
  return text
    .split('\n')
    .filter(line => line.startsWith('    '))
    .flatMap(line => line.trim().split(' '));
}

test('every event has the name of one of QEMU’s', t => {
  t.true(ours.length > 70);
  t.deepEqual(
    ours.filter(name => !QEMU_EVENTS.includes(name)),
    [],
  );
  t.is(new Set(ours).size, ours.length);
});

test('the documentation lists those that there are, and those of VT-d that there are not', t => {
  t.deepEqual(listed('### Events that are there\n').sort(), ours.toSorted());
  const absent = QEMU_EVENTS.filter(name => name.startsWith('vtd_') && !ours.includes(name));
  t.deepEqual(listed('### Events that are not there\n').sort(), absent.toSorted());
});

const isListed = 'program' in qemu && / 10\.0\./.test(runSync(qemu.program, ['--version']).stdout);
(isListed ? test : test.skip)('the committed names are those of QEMU 10.0', t => {
  if ('missing' in qemu) throw new Error(qemu.missing);
  t.deepEqual(eventsOf(qemu.program).sort(), QEMU_EVENTS.toSorted());
});
