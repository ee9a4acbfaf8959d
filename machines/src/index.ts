import type { MachineDefinition } from '@remora/machine';
import { q35AtsMachine } from './q35-ats.js';
import { q35PassthroughMachine } from './q35-passthrough.js';
import { q35TestdevMachine } from './q35-testdev.js';
import { shadow } from './shadow.js';
import { vsva, vsvaIommufd } from './vsva.js';

export * from './guest/guest.js';
export { extendedCapability, GuestAts } from './guest/guest-ats.js';
export * from './guest/guest-engine.js';
export * from './lending-host.js';
export * from './physical-vtd.js';
export * from './plugins.js';
export * from './q35-ats.js';
export * from './q35-passthrough.js';
export * from './q35-testdev.js';
export * from './scenarios/index.js';
export * from './shadow.js';
export * from './vsva.js';

/** The ready-made machines: `remora run NAME`. */
export const machines: readonly MachineDefinition[] = [
  vsva,
  vsvaIommufd,
  shadow,
  q35PassthroughMachine,
  q35TestdevMachine,
  q35AtsMachine,
];
