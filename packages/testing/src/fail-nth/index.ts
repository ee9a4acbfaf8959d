export { assertFailNth, type FailNthTest, toldHowOften } from './ava.js';
export { plausibleErrnos } from './errnos.js';
export { FailurePoints, MEMORY_ACCESS, type PlannedFailure } from './failure-points.js';
export { REFUSED, ScenarioError } from './life-run.js';
export * from './scenario.js';
export { failNth, type FailNthOptions, type FailNthOutcome, type FailNthReport, isClean } from './sweep.js';
