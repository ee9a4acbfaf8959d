export type { VirtualCommandResult, VtdEnvironment, VtdPropagation } from './environment.js';
export { SPECIFICATION, type Behaviour } from './behaviour.js';
export { Capabilities } from './capabilities.js';
export { RegisterFile } from './register-file.js';
export { VTD_EVENTS } from './trace-events.js';
export { VtdUnit } from './unit.js';
export { IntelIommu, type UnitFactory, VTD_BASE } from './intel-iommu.js';
export { Shadows, type ShadowsOptions, type ShadowUnit } from './shadow/shadows.js';
export { VtdAddressSpaces, type HostedFunctionSink, type VtdAddressSpacesOptions } from './pci-adapter.js';
