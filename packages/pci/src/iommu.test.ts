import test from 'ava';
import type { HostIOMMUContext } from '@remora/iommu';
import { PciBridge } from './bridge.js';
import {
  pciDeviceHostIommuContext,
  pciDeviceSetupIommu,
  pciDeviceUnsetIommu,
  type PciIommuOps,
  pciIommuOf,
  pciSetupIommu,
} from './iommu.js';
import { endpoint, platform } from './platform.test.helper.js';

function context(name: string): HostIOMMUContext {
  return {
    name,
    flags: 3,
    stage1Format: 1,
    replacesAtomically: false,
    pasidAlloc: () => 1,
    pasidFree: () => 0,
    bindStage1: () => 0,
    unbindStage1: () => 0,
    flushStage1Caches: () => 0,
  };
}

function unit(log: string[]): PciIommuOps {
  return {
    wantsNesting: true,
    addressSpaceFor: bus => bus.platform!.addressSpace,
    hostContextSet: (bus, devfn, host) => void log.push(`set ${bus.name} ${devfn} ${host.name}`),
    hostContextUnset: (bus, devfn) => void log.push(`unset ${bus.name} ${devfn}`),
  };
}

test('A09: the lookup answers for an empty slot, an emulated device, a host without context, and a host with one', t => {
  const { root } = platform();
  const fn = endpoint();
  root.plug(fn, 0x18);
  t.is(pciDeviceHostIommuContext(root.functions[0x20]), undefined);
  t.is(pciDeviceHostIommuContext(fn), undefined);
  pciDeviceSetupIommu(fn, () => undefined);
  t.is(pciDeviceHostIommuContext(fn), undefined);
  const host = context('container0');
  pciDeviceSetupIommu(fn, asked => (asked === fn ? host : undefined));
  t.is(pciDeviceHostIommuContext(fn), host);
  pciDeviceUnsetIommu(fn);
  t.is(pciDeviceHostIommuContext(fn), undefined);
});

test('A05: the IOMMU hears of a context as it appears, is replaced (the last writer wins) and before it goes', t => {
  const { root } = platform();
  const log: string[] = [];
  pciSetupIommu(root, unit(log));
  const fn = endpoint();
  root.plug(fn, 0x18);
  pciDeviceSetupIommu(fn, () => context('container0'));
  pciDeviceSetupIommu(fn, () => context('container1'));
  pciDeviceUnsetIommu(fn);
  pciDeviceUnsetIommu(fn);
  t.deepEqual(log, ['set pcie.0 24 container0', 'unset pcie.0 24', 'set pcie.0 24 container1', 'unset pcie.0 24']);
});

test('an IOMMU that comes last hears of the contexts that are there, below bridges too', t => {
  const { root } = platform();
  const port = new PciBridge('port', 'root-port', { vendor: 1, device: 1 });
  const fn = endpoint();
  root.plug(port.fn, 0x08);
  port.secondary.plug(fn, 0);
  pciDeviceSetupIommu(fn, () => context('container0'));
  const log: string[] = [];
  const ops = unit(log);
  const registration = pciSetupIommu(root, ops);
  t.deepEqual(log, ['set port 0 container0']);
  t.is(pciIommuOf(fn), ops);
  t.throws(() => pciSetupIommu(root, unit([])), { message: /has an IOMMU/ });
  registration[Symbol.dispose]();
  t.is(pciIommuOf(fn), undefined);
});

test('an unplugged function has no IOMMU', t => {
  t.is(pciIommuOf(endpoint()), undefined);
});
