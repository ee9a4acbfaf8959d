/** Class codes of PCI functions (base class and sub-class), in words. */
const CLASSES: Readonly<Record<number, string>> = {
  0x0106: 'SATA controller',
  0x0108: 'NVMe controller',
  0x0200: 'Ethernet controller',
  0x0300: 'VGA controller',
  0x0600: 'Host bridge',
  0x0601: 'ISA bridge',
  0x0604: 'PCI bridge',
  0x0c03: 'USB controller',
  0x0c05: 'SMBus',
};

/** Undefined for a class that has no name here. */
export function pciClassName(code: number): string | undefined {
  return CLASSES[code];
}
