// Each mutant of the model is noticed by the judge that is named for it, and the model itself is not.
import test from 'ava';
import { judge, judgeTogether, nameOf, needsMachines } from './judges.js';
import { ATS_MUTANTS } from './ats-mutants.js';
import { COMPATIBLE_MUTANTS } from './compatible-mutants.js';
import { DEVICE_TLB_MUTANTS } from './device-tlb-mutants.js';
import { HOST_MUTANTS } from './host-mutants.js';
import { INTERRUPT_MUTANTS } from './interrupt-mutants.js';
import { IOAS_MUTANTS } from './ioas-mutants.js';
import { IOMMUFD_CLIENT_MUTANTS } from './iommufd-client-mutants.js';
import { IOMMUFD_MUTANTS } from './iommufd-mutants.js';
import { LIVE_MUTANTS } from './live-mutants.js';
import { MUTANTS } from './mutants.js';
import { PAGE_TABLE_MUTANTS } from './page-table-mutants.js';
import { SHADOW_MUTANTS } from './shadow-mutants.js';
import { STATE_MUTANTS } from './state-mutants.js';
import { VMID_MUTANTS } from './vmid-mutants.js';
import { altered, Workshop } from './workshop.js';

const ALL = [
  ...MUTANTS,
  ...ATS_MUTANTS,
  ...DEVICE_TLB_MUTANTS,
  ...HOST_MUTANTS,
  ...INTERRUPT_MUTANTS,
  ...IOAS_MUTANTS,
  ...IOMMUFD_CLIENT_MUTANTS,
  ...IOMMUFD_MUTANTS,
  ...PAGE_TABLE_MUTANTS,
  ...SHADOW_MUTANTS,
  ...COMPATIBLE_MUTANTS,
  ...STATE_MUTANTS,
  ...VMID_MUTANTS,
  ...LIVE_MUTANTS,
];

test('there are 50 mutants or more', t => {
  t.true(ALL.length >= 50);
});

test('an alteration that does not fit exactly once is refused', t => {
  const alteration = { file: 'file.js', find: 'a', replace: 'b' };
  t.is(altered('xay', alteration), 'xby');
  t.throws(() => altered('xy', alteration), { message: 'file.js: "a" stands there 0 times, not once' });
  t.throws(() => altered('aa', alteration), { message: 'file.js: "a" stands there 2 times, not once' });
});

for (const { name, alterations, judge: by } of ALL) {
  test(`${name}: noticed by ${nameOf(by)}`, async t => {
    await using workshop = await Workshop.open(alterations, needsMachines(by));
    const { wrong, first } = await judge(workshop, by);
    t.true(wrong > 0, 'it survived');
    t.log(first);
  });
}

for (const whole of [false, true]) {
  test(`every judge ${whole ? 'with' : 'without'} machines finds the model itself right`, async t => {
    await using workshop = await Workshop.open([], whole);
    const judges = ALL.map(each => each.judge).filter(each => needsMachines(each) === whole);
    for (const { right, wrong, first } of await judgeTogether(workshop, judges)) {
      t.is(wrong, 0, first);
      t.true(right > 0);
    }
  });
}
