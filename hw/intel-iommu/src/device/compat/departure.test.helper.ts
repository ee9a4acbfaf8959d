/** One place where QEMU 10.2 departs from the specification: a guest program, and what comes of it under each profile. */
import { QEMU_10_2, SPECIFICATION, type Behaviour } from '../behaviour.js';
import type { BenchOptions } from '../bench.test.helper.js';

/** What a unit plays. Its two fields are options of a bench. */
export type Profile = Required<Pick<BenchOptions, 'compat' | 'behaviour'>>;

export interface Departure {
  /** What the guest sees. */
  readonly what: string;
  /** Runs the same guest program on a new unit, and returns what the guest sees of it. */
  program(profile: Profile): unknown;
  readonly spec: unknown;
  readonly qemu: unknown;
}

/** By the flag of Behaviour that makes the difference. */
export type Departures = { readonly [F in keyof Behaviour]?: Departure };

export const SPEC: Profile = { compat: 'spec', behaviour: SPECIFICATION };
export const QEMU: Profile = { compat: 'qemu-10.2', behaviour: QEMU_10_2 };

/** `profile` with one flag as `other` has it. */
export function exchanged(profile: Profile, flag: keyof Behaviour, other: Profile): Profile {
  return { ...profile, behaviour: { ...profile.behaviour, [flag]: other.behaviour[flag] } };
}
