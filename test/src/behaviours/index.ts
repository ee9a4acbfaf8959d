/** Behaviours 1 to 68 of vsva.md section 7, by number. */
import type { Behaviour } from './behaviour.js';
import { flushBehaviours } from './flush.js';
import { lifecycleBehaviours } from './lifecycle.js';
import { pasidCacheBehaviours } from './pasid-cache.js';
import { virtualCommandBehaviours } from './virtual-command.js';

export const behaviours: readonly Behaviour[] = [
  ...virtualCommandBehaviours,
  ...pasidCacheBehaviours,
  ...flushBehaviours,
  ...lifecycleBehaviours,
];
