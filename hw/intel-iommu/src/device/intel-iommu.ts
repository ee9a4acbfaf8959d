/**
 * intel-iommu: the vIOMMU of a guest. A VT-d unit behind its registers at 0xFED90000, the PCI address spaces that go through it,
 * and the way from its invalidations to the hosts behind passed-through devices.
 *
 * Reference: Intel VT-d; for propagation RFC v3.1 [A01 - A22].
 */
import {
  ConfigError,
  errnoName,
  logger,
  rateLimited,
  Region,
  type Device,
  type Inspector,
  type ResetPhase,
  type Resumed,
  StateError,
  type StateReader,
  type StateWriter,
} from '@remora/core';
import { formatBdf, functionByRequesterId, pciSetupIommu, type SystemDeviceContext } from '@remora/pci';
import type { VtdConfig } from '../config/index.js';
import { VtdAddressSpaces } from './pci-adapter.js';
import { HostPropagation } from './propagation/host-propagation.js';
import { Shadows } from './shadow/shadows.js';
import { VtdUnit } from './unit.js';

/** Where q35 has its VT-d unit, as the DMAR table says. */
export const VTD_BASE = 0xfed9_0000;
const VTD_WINDOW = 0x1000;
const WARNINGS = 20;

/** Makes the unit of a device: a class of one's own sees, or changes, what passes through it. */
export type UnitFactory = (...parameters: ConstructorParameters<typeof VtdUnit>) => VtdUnit;

export class IntelIommu implements Device {
  readonly name: string;
  readonly unit: VtdUnit;
  readonly shadows: Shadows;
  readonly propagation: HostPropagation;
  readonly spaces: VtdAddressSpaces;
  readonly #context: SystemDeviceContext;
  readonly #region: Region;
  /** In the state that was loaded, a host did not have all that the guest had mapped. */
  #owed = false;
  #registration: Disposable | undefined;

  constructor(
    context: SystemDeviceContext,
    config: VtdConfig,
    makeUnit: UnitFactory = (...parameters) => new VtdUnit(...parameters),
  ) {
    this.name = context.name;
    this.#context = context;
    const { addressSpace, ledger } = context;
    const log = rateLimited(logger('remora:hw:intel-iommu', context.name), WARNINGS);
    this.shadows = new Shadows(() => this.unit, {
      name: context.name,
      memory: addressSpace,
      ledger,
      warn: message => log.warn(message),
    });
    this.propagation = new HostPropagation(() => this.unit, config, {
      name: context.name,
      memory: addressSpace,
      ledger,
      warn: message => log.warn(message),
      shadows: this.shadows,
    });
    this.unit = makeUnit(config, {
      name: context.name,
      memory: addressSpace,
      ledger,
      trace: context.trace,
      ...(config.propagation ? { propagation: this.propagation } : {}),
      sendMsi: (hi, lo, data) => context.msi(hi, lo, data),
      endpoint: requesterId => this.spaces.endpoint(requesterId),
      requesters: () => Array.from(context.rootBus.walk(), fn => fn.requesterId),
      clock: context.clock,
    });
    this.spaces = new VtdAddressSpaces(this.unit, addressSpace, {
      name: context.name,
      ledger,
      wantsNesting: config['x-scalable-mode'] === 'modern',
      shadows: this.shadows,
      ...(config.propagation ? { hosted: this.propagation } : {}),
      functionAt: requesterId => functionByRequesterId(context.rootBus, requesterId),
      facts: {
        registerBase: VTD_BASE,
        hostAddressWidth: config['aw-bits'],
        interruptRemapping: config.intremap,
        deviceTlb: config['device-iotlb'],
      },
    });
    this.#region = Region.mmio(`${context.name}-registers`, VTD_WINDOW, this.unit.mmio);
  }

  /** @throws ConfigError if the root bus has an IOMMU already. */
  realize(): void {
    if (this.#context.rootBus.iommu !== undefined) {
      throw new ConfigError(this.name, 'the root bus has an IOMMU already: a machine takes one');
    }
    this.#context.memory.add(VTD_BASE, this.#region, 1);
    this.#registration = pciSetupIommu(this.#context.rootBus, this.spaces);
  }

  /** Last of all, so that no stray DMA of a device that resets earlier faults. */
  reset(phase: ResetPhase): void {
    if (phase !== 'exit') return;
    this.unit.reset();
    this.shadows.everything();
  }

  save(into: StateWriter): void {
    this.unit.save(into.child('unit'));
    this.propagation.save(into.child('host'));
    into.flag('mappings-owed', this.shadows.owed);
  }

  load(from: StateReader): void {
    this.unit.load(from.child('unit'));
    this.propagation.load(from.child('host'));
    this.#owed = from.flag('mappings-owed');
  }

  /**
   * What hosts had of this guest's translations, they have again before any device below goes on.
   * @throws StateError if a host refuses what the one before had.
   */
  resume(): readonly Resumed[] {
    const result = this.shadows.everything();
    if (result < 0 && !this.#owed)
      throw new StateError('mappings', `a host does not map what the guest has mapped: ${errnoName(result)}`);
    const mapped = this.shadows.functions.filter(({ pages }) => pages > 0);
    const resumed = [
      ...mapped.map(({ requesterId, pages }) => {
        const place = formatBdf(requesterId >>> 8, requesterId & 0xff);
        return { what: 'mappings', detail: `${pages} pages of ${place}, from the guest's tables` };
      }),
      ...this.propagation.resume(),
    ];
    const awaited = this.unit.resume();
    if (awaited > 0) resumed.push({ what: 'device TLBs', detail: `${awaited} invalidations sent again` });
    return resumed;
  }

  inspect(into: Inspector): void {
    this.unit.inspect(into);
    this.propagation.inspect(into.child('pasid-cache'));
    this.shadows.inspect(into.child('shadows'));
  }

  [Symbol.dispose](): void {
    if (this.#registration === undefined) return;
    this.#registration[Symbol.dispose]();
    this.#registration = undefined;
    this.#context.memory.remove(this.#region);
  }
}
