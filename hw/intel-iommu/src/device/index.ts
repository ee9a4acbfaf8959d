export type { VirtualCommandResult, VtdEnvironment, VtdPropagation } from './environment.js';
export { Capabilities } from './capabilities.js';
export { RegisterFile } from './register-file.js';
export { VtdUnit } from './unit.js';
