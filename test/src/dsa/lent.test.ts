// A host's accelerator in a guest: what Linux asks of a function before it shares an address space with it.
import dsaPlugin from '@hw/dsa/plugin';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import q35Plugin from '@hw/q35/plugin';
import vfioPciPlugin from '@hw/vfio-pci/plugin';
import { createHost, createMachine } from '@remora/machine';
import { physicalVtd } from '@remora/machines';
import { Capability, ExpressLayout, type PciFunction } from '@remora/pci';
import { owner } from '@remora/testing';
import test, { type ExecutionContext } from 'ava';

const HOST_FUNCTION = '0000:6a:01.0';

function lent(t: ExecutionContext, host: object, guest: object): PciFunction {
  const own = owner(t);
  const lending = own(
    createHost({
      iommu: physicalVtd({ 'device-iotlb': true }),
      plugins: [dsaPlugin],
      devices: [{ driver: 'dsa', options: { addr: HOST_FUNCTION, ...host } }],
    }),
  );
  const machine = own(
    createMachine(lending, {
      board: 'q35,memory=64M',
      plugins: [q35Plugin, intelIommuPlugin, vfioPciPlugin],
      devices: [
        { driver: 'intel-iommu', options: { 'x-scalable-mode': 'modern' } },
        { driver: 'vfio-pci', options: { id: 'lent', host: HOST_FUNCTION, addr: '04.0', ...guest } },
      ],
    }),
  );
  machine.start();
  return machine.functions('lent')[0]!;
}

/** Whether the function takes requests with PASID prefixes, as its PCI Express capability says. */
function takesPrefixes(fn: PciFunction): boolean {
  const at = fn.capabilities.find(Capability.EXPRESS);
  return ExpressLayout.fields.endToEndPrefixes.get(fn.config.words, at! / 4) !== 0;
}

test('PASIDs come with end-to-end prefixes, without which Linux enables none', t => {
  t.true(takesPrefixes(lent(t, {}, {})));
  t.false(takesPrefixes(lent(t, { pasid: false }, {})));
});

test('ATS is shown where it is asked for, and the host has it', t => {
  t.is(lent(t, { ats: true, pri: true }, {}).atsCapability, undefined, 'page requests have no way through a container');
  const fn = lent(t, { ats: true, pri: true }, { 'x-ats': true });
  t.truthy(fn.atsCapability);
  t.is(fn.priCapability, undefined);
  t.is(lent(t, {}, { 'x-ats': true }).atsCapability, undefined);
});
