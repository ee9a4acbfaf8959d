import { lend } from './lend.js';
import type { Scenario } from './scenario.js';
import { share } from './share.js';

export { type BackEnd, backEnds, hostOf, type LendingHost, machineOf } from './back-ends.js';
export { failNthScenarios } from './fail-nth.js';
export * from './scenario.js';

/** By name. */
export const scenarios: ReadonlyMap<string, Scenario> = new Map([lend, share].map(each => [each.name, each]));
