/** What the scenario `share` asks of its host fails once, on each of its back ends; of the registers' accesses some do, all of them by `remora fail-nth`. */
import test from 'ava';
import { failNthScenarios } from '@remora/machines';
import { assertFailNth } from '@remora/testing';

for (const scenario of failNthScenarios.filter(({ name }) => name.startsWith('share/'))) {
  test(scenario.name, t => {
    t.true(scenario.minimum! > 0, 'a minimum of points is kept');
    assertFailNth(t, scenario, { samples: 4, registers: 2 });
  });
}
