/** Bridges as devices, under QEMU's names and with the ids that QEMU's have. What is plugged below names the bridge's id as its bus. */
import { type Device, type Inspector, integer, properties, type ResetPhase } from '@remora/core';
import { type BridgeKind, type BridgeOptions, PciBridge } from './bridge.js';
import type { DeviceKind, PciDeviceContext } from './device-kind.js';
import { Config } from './registers.js';

const bridgeProperties = properties({
  port: integer({ min: 0, max: 255 }, 0, 'port number in the PCI Express capability'),
});
export type BridgeConfig = ReturnType<typeof bridgeProperties.parse>;

/** A bridge as a device of its own. */
export class BridgeDevice implements Device {
  readonly name: string;
  readonly bridge: PciBridge;
  readonly #context: Pick<PciDeviceContext, 'plug'>;

  constructor(context: Pick<PciDeviceContext, 'name' | 'plug'>, kind: BridgeKind, options: BridgeOptions) {
    this.name = context.name;
    this.bridge = new PciBridge(context.name, kind, options);
    this.#context = context;
  }

  realize(): void {
    this.#context.plug(this.bridge.fn);
  }

  reset(phase: ResetPhase): void {
    if (phase === 'hold') this.bridge.fn.reset();
  }

  /** All its state is in its registers, which the machine saves. */
  save(): void {}

  load(): void {}

  unplug(): void {
    this.bridge.fn.bus?.unplug(this.bridge.fn);
  }

  inspect(into: Inspector): void {
    this.bridge.fn.inspect(into);
    into.value('secondary', this.bridge.secondary.number);
    into.value('subordinate', this.bridge.fn.config.get8(Config.SUBORDINATE_BUS));
  }

  [Symbol.dispose](): void {
    this.unplug();
  }
}

function bridgeKind(
  id: string,
  kind: BridgeKind,
  vendor: number,
  device: number,
  more: Omit<BridgeOptions, 'vendor' | 'device' | 'port'> = {},
): DeviceKind<BridgeConfig, 'pci'> {
  return {
    id,
    bus: 'pci',
    properties: bridgeProperties,
    create: (context, config) => new BridgeDevice(context, kind, { ...more, vendor, device, port: config.port }),
  };
}

/** Every machine has these. */
export const bridgeKinds: readonly DeviceKind<BridgeConfig, 'pci'>[] = [
  bridgeKind('pcie-root-port', 'root-port', 0x1b36, 0x000c, {
    interruptPin: 1,
    subsystem: { vendor: 0x1b36, device: 0 },
    vectors: 1,
  }),
  bridgeKind('x3130-upstream', 'upstream-port', 0x104c, 0x8232),
  bridgeKind('xio3130-downstream', 'downstream-port', 0x104c, 0x8233),
  bridgeKind('pcie-pci-bridge', 'pcie-to-pci', 0x1b36, 0x000e),
  bridgeKind('pci-bridge', 'pci', 0x1b36, 0x0001),
];
