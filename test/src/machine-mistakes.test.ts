/** Mistakes that only real devices together can make. */
import test from 'ava';
import { ConfigError } from '@remora/core';
import { createMachine } from '@remora/machine';
import intelIommu from '@hw/intel-iommu/plugin';
import q35 from '@hw/q35/plugin';

test('a machine takes one vIOMMU', t => {
  const devices = ['intel-iommu', 'intel-iommu,x-scalable-mode=on'];
  const machine = createMachine(undefined, { board: 'q35,memory=32M', plugins: [q35, intelIommu], devices });
  const error = t.throws(() => machine.start(), { instanceOf: ConfigError });
  t.is(error.message, 'devices[1]: the root bus has an IOMMU already: a machine takes one (intel-iommu)');
});
