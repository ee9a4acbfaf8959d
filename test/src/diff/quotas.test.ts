/** What a run must have reached, and how much of it may be excused. */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import test from 'ava';
import { Fault, faultName } from '@hw/intel-iommu/spec';
import { guestRecordings, randomRecordings } from '@remora/tools';
import {
  CONFIGS,
  Coverage,
  type DiffResult,
  JUSTIFIED,
  type Justified,
  MOST_JUSTIFIED,
  missedQuotas,
  QUOTA_PROGRAMS,
  QUOTAS,
  verdict,
} from '@remora/tools/diff';

const HEADER = / cm=([01]) sm=([01]) flts=([01]) /;
/** A request without PASID that was refused. */
const REFUSED = /^\s*TF \S+ - .* -> ([0-9a-f]+) /gm;
/** Reasons of walks, which a unit that lets everything pass never starts. */
const OF_WALKS: readonly number[] = [
  ...[Fault.LGN_1, Fault.LGN_2, Fault.LGN_3, Fault.LSS_1, Fault.LSS_2, Fault.LCT_4, Fault.SGN_8],
];

/** The configuration whose unit a recording shows. */
function configOf(caching: boolean, scalable: boolean, firstStage: boolean): string {
  if (scalable) return firstStage ? 'first-stage' : 'scalable-second-stage';
  return caching ? 'caching-mode' : 'legacy';
}

function recordedReasons(): Map<string, Set<number>> {
  const found = new Map<string, Set<number>>();
  for (const file of [...guestRecordings(), ...randomRecordings()]) {
    const text = gunzipSync(readFileSync(file)).toString('latin1');
    const [, caching, scalable, firstStage] = HEADER.exec(text)!;
    const name = configOf(caching === '1', scalable === '1', firstStage === '1');
    const reasons = found.get(name) ?? new Set();
    for (const [, reason] of text.matchAll(REFUSED)) reasons.add(parseInt(reason!, 16));
    found.set(name, reasons);
  }
  return found;
}

test('the fault reasons of each configuration are those that the recordings show', t => {
  const recorded = recordedReasons();
  const second = [...recorded.get('scalable-second-stage')!];
  recorded.set('pass-through', new Set(second.filter(reason => !OF_WALKS.includes(reason))));
  t.deepEqual([...recorded.keys()].toSorted(), CONFIGS.map(({ name }) => name).toSorted());
  const names = (reasons: Iterable<number>): string[] => [...reasons].map(faultName).toSorted();
  for (const [name, reasons] of recorded) t.deepEqual(names(QUOTAS[name]!.reasons), names(reasons), name);
});

/** A result that reaches every quota. */
function complete(name: string, programs = QUOTA_PROGRAMS): DiffResult {
  const quota = QUOTAS[name]!;
  const coverage = new Coverage();
  coverage.operations = 1000;
  Object.assign(coverage.transfers, { read: 50, write: 50 });
  Object.assign(coverage[quota.transfers], { read: 15, write: 15 });
  for (const reason of quota.reasons) coverage.reasons.set(reason, 1);
  for (const type of quota.performed) coverage.performed.set(type, 1);
  for (const type of quota.refused) coverage.refused.set(type, 1);
  return { config: CONFIGS.find(config => config.name === name)!, programs, coverage, found: undefined };
}

const all = (programs?: number): DiffResult[] => CONFIGS.map(({ name }) => complete(name, programs));

test('each quota is missed by itself', t => {
  const { coverage } = complete('legacy');
  const missed = (): string[] => missedQuotas(QUOTAS['legacy']!, coverage);
  t.deepEqual(missed(), []);
  coverage.translated.read = 14;
  t.deepEqual(missed(), ['29 % of the transfers translated, not 30 %']);
  Object.assign(coverage.translated, { read: 9, write: 60 });
  t.deepEqual(missed(), ['9 % of the transfers read and translated, not 10 %']);
  coverage.translated.read = 60;
  coverage.reasons.delete(Fault.LGN_4);
  coverage.performed.delete(3);
  coverage.refused.delete(8);
  t.deepEqual(missed(), [
    `no fault ${faultName(Fault.LGN_4)}`,
    'no descriptor of type 3 performed',
    'no descriptor of type 8 refused',
  ]);
  t.is(missedQuotas(QUOTAS['legacy']!, new Coverage()).length > 10, true, 'nothing at all');
});

test('what passes counts where nothing is translated, and only there', t => {
  for (const { name } of CONFIGS) {
    const { coverage } = complete(name);
    const passes = name === 'pass-through';
    Object.assign(coverage[passes ? 'passed' : 'translated'], { read: 0, write: 0 });
    Object.assign(coverage[passes ? 'translated' : 'passed'], { read: 50, write: 50 });
    t.is(missedQuotas(QUOTAS[name]!, coverage).length, 3, name);
  }
});

test('quotas bind from their number of programs on; before, they are told', t => {
  const short = all(QUOTA_PROGRAMS - 1);
  const full = all();
  for (const results of [short, full]) results[0]!.coverage.performed.delete(5);
  const missed = ['legacy: no descriptor of type 5 performed'];
  t.deepEqual(verdict(short, []), { failures: [], told: missed });
  t.deepEqual(verdict(full, []), { failures: missed, told: [] });
});

const excuse = (id: string): Justified => ({ id, section: '', reason: '', agree: () => false });

test('a justified difference that nothing hits fails a full run, and no other', t => {
  const unused = { failures: ['the justified difference "planted" was not met: take it off the list'], told: [] };
  const none = { failures: [], told: [] };
  t.deepEqual(verdict(all(), [excuse('planted')]), unused);
  t.deepEqual(verdict(all().slice(1), [excuse('planted')]), none, 'not all configurations');
  t.deepEqual(verdict(all(QUOTA_PROGRAMS - 1), [excuse('planted')]), none, 'too few programs');
  const met = all();
  met[2]!.coverage.justified.set('planted', 1);
  t.deepEqual(verdict(met, [excuse('planted')]), none);
});

test('too many justified differences, or too many hits, fail any run', t => {
  const results = [complete('legacy', 1)];
  const long = Array.from({ length: MOST_JUSTIFIED + 1 }, (_, i) => excuse(`planted-${i}`));
  t.deepEqual(verdict(results, long.slice(1)).failures, []);
  t.deepEqual(verdict(results, long).failures, ['26 justified differences are listed; at most 25 may be']);
  results[0]!.coverage.justified.set('planted-1', 19);
  t.deepEqual(verdict(results, long.slice(1)).failures, []);
  results[0]!.coverage.justified.set('planted-2', 1);
  t.deepEqual(verdict(results, long.slice(1)).failures, [
    'justified differences are 2.0 % of the operations; they must stay below 2 %',
  ]);
});

test('the list itself is short, and each entry says where and why', t => {
  t.true(JUSTIFIED.length <= MOST_JUSTIFIED);
  t.is(new Set(JUSTIFIED.map(({ id }) => id)).size, JUSTIFIED.length);
  for (const { id, section, reason } of JUSTIFIED) {
    t.regex(section, /^VT-d \d/, id);
    t.true(reason.length > 20, id);
  }
});
