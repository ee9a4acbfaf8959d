import test from 'ava';
import { bootReports } from '../console.js';
import { hostVerdict } from './host-verdict.js';
import type { Answer } from './script.js';

const CONSOLE = [
  '[    0.000000] Linux version 7.2',
  '[    4.000000] remora: function 0000:00:04.0 vfio-pci',
  '[    4.000000] remora: function 0000:00:05.0 vfio-pci',
  '[    5.398758] DMAR: [DMA Write NO_PASID] Request device [0000:00:04.0] fault addr 0x300000 [fault reason 0x05] PTE Write access is not set',
  '[    9.000000] remora: node 0 3.30 9.00',
  '[    9.100000] remora: done',
];
const ANSWERS: readonly Answer[] = Array.from({ length: 300 }, (_, index) =>
  index < 4 ? { step: `DMA/${index}`, result: 0, out: 'all' } : { step: `x/${index}`, result: index },
);

function failing(console: readonly string[], answers = ANSWERS, simulated = ANSWERS): string[] {
  const checks = hostVerdict(bootReports(console)[0], console, answers, simulated);
  return checks.filter(({ ok }) => !ok).map(({ name }) => name);
}

const without = (text: string): string[] => CONSOLE.filter(line => !line.includes(text));

test('each check fails on what is spoilt in that respect, and none on what is not', t => {
  t.deepEqual(failing(CONSOLE), []);
  t.deepEqual(failing(without('done')), ['finished']);
  t.deepEqual(failing(without('00:05.0 vfio-pci')), ['bound']);
  t.deepEqual(failing(without('remora: node')), ['node']);
  t.deepEqual(failing(CONSOLE.map(line => line.replace('node 0', 'node 1'))), ['node']);
  t.deepEqual(failing(without('fault addr')), ['refused']);
  t.deepEqual(failing(CONSOLE, ANSWERS.slice(0, 190), ANSWERS.slice(0, 190)), ['answers']);
  const other = ANSWERS.map(each => (each.step === 'x/9' ? { ...each, result: 'EIO' } : each));
  t.deepEqual(failing(CONSOLE, ANSWERS, other), ['agreed']);
  const still = ANSWERS.map(each => (each.out === 'all' ? { ...each, out: 'nothing' } : each));
  t.deepEqual(failing(CONSOLE, still, still), ['transfers']);
  t.deepEqual(failing(CONSOLE, [], []), ['answers', 'agreed', 'transfers']);
});
