export * from './configuration-spaces.js';
export * from './create-machine.js';
export * from './define-machine.js';
export { Kinds, type NamedKind } from './device-kinds.js';
export { inRealizationOrder, type Ordered } from './device-order.js';
export type { DeviceSpec } from './device-spec.js';
export * from './host.js';
export { Machine } from './machine.js';
export * from './scope.js';
