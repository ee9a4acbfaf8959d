export { assertFailNth, type FailNthTest, toldHowOften } from './ava.js';
export { plausibleErrnos } from './errnos.js';
export { FailurePoints, MEMORY_ACCESS, type PlannedFailure } from './failure-points.js';
export { withoutBusMaster, withoutPlaces, withoutTables } from './host-dump.js';
export type { ObservedLife, ObservedScenario, ObservedStep, ObservedWorld, SeenByStep } from './observed.js';
export { REFUSED, ScenarioError } from './outcome.js';
export * from './scenario.js';
export type { AnyScenario } from './subject.js';
export { failNth, type FailNthOptions, type FailNthOutcome, type FailNthReport, isClean } from './sweep.js';
