// Each mutant of the model is noticed by the judge that is named for it, and the model itself is not.
import test from 'ava';
import { judge, judgeTogether, nameOf } from './judges.js';
import { ATS_MUTANTS } from './ats-mutants.js';
import { MUTANTS } from './mutants.js';
import { altered, Workshop } from './workshop.js';

const ALL = [...MUTANTS, ...ATS_MUTANTS];

test('there are ten mutants or more', t => {
  t.true(ALL.length >= 10);
});

test('an alteration that does not fit exactly once is refused', t => {
  const alteration = { file: 'file.js', find: 'a', replace: 'b' };
  t.is(altered('xay', alteration), 'xby');
  t.throws(() => altered('xy', alteration), { message: 'file.js: "a" stands there 0 times, not once' });
  t.throws(() => altered('aa', alteration), { message: 'file.js: "a" stands there 2 times, not once' });
});

for (const { name, alterations, judge: by } of ALL) {
  test(`${name}: noticed by ${nameOf(by)}`, async t => {
    await using workshop = await Workshop.open(alterations);
    const { wrong, first } = await judge(workshop, by);
    t.true(wrong > 0, 'it survived');
    t.log(first);
  });
}

test('every judge finds the model itself right', async t => {
  await using workshop = await Workshop.open([]);
  const judges = ALL.map(each => each.judge);
  for (const { right, wrong, first } of await judgeTogether(workshop, judges)) {
    t.is(wrong, 0, first);
    t.true(right > 0);
  }
});
