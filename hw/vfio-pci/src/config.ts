import { bdf, bool, choice, properties, required, string } from '@remora/core';
import type { PciPlacement, TypedDevice } from '@remora/pci';

/** Options of vfio-pci. Quirks hold for the container, so for all devices that share it: those of the first one count. */
export const vfioPciProperties = properties({
  host: required(bdf(undefined, 'address of the function on the host, as 0000:3f:00.0')),
  container: choice(
    ['shared', 'new'] as const,
    'shared',
    'shared: with the devices of this machine that see the same memory; new: one (or an I/O address space) of its own',
  ),
  iommufd: string(
    undefined,
    'id of the iommufd object that it is opened through, `-object iommufd,id=iommufd0`; default: a VFIO container',
  ),
  'x-vmid': bool(
    false,
    "the host's kernel speaks the VMID series: this machine's containers have one VMID, and no first stages (not under a vIOMMU)",
  ),
  'x-ats': bool(
    false,
    "the guest's function has ATS if the host's has, also where page requests have no way: for guests that share address spaces with no other",
  ),
  'quirk-attributes-collapse': bool(false, 'Q1: any attribute of a first stage is passed on as SRE [A14].'),
  'quirk-flush-argsz': bool(false, 'Q7: a first-stage flush counts its information twice in argsz, 104 [A18].'),
  'quirk-format-only-logged': bool(false, 'Q9: a host with another first-stage format is only logged [A14].'),
  'quirk-missing-capability': bool(false, 'Q12: a nesting host without the nesting capability is accepted [A07].'),
  'quirk-call-per-device': bool(
    false,
    'Q-PERDEV: one host call per device, also for devices that share a container (behaviours 45, 46).',
  ),
  'quirk-vmid-after-set-iommu': bool(
    false,
    'The documented order of the VMID series, which its kernel ignores (vsva.md 5.4).',
  ),
});
export type VfioPciConfig = ReturnType<typeof vfioPciProperties.parse>;

/** `-device vfio-pci,host=...` as an object. */
export function vfioPci(options: PciPlacement & Partial<VfioPciConfig> & Pick<VfioPciConfig, 'host'>): TypedDevice {
  return { driver: 'vfio-pci', options: { ...options } };
}
