/**
 * What live machines are made of besides Remora, as packages of Debian. Suites and series are pinned, versions are not: a mirror drops old
 * ones. Their versions are printed by whoever uses them.
 */

/** Suites that are looked at. The first is QEMU's: older ones know no vfio-user. */
export const QEMU_SUITE = 'trixie-backports';
export const SUITES = [QEMU_SUITE, 'trixie', 'bookworm'] as const;

export const QEMU = { package: 'qemu-system-x86', program: 'usr/bin/qemu-system-x86_64' } as const;
export const BUSYBOX = { package: 'busybox-static', programs: ['bin/busybox', 'usr/bin/busybox'] } as const;

/** `cloud` is small and has the drivers of disks and the IOMMU built in; `generic` has a module for nearly everything. */
export type Flavour = 'cloud' | 'generic';

/**
 * Names of the packages that hold the image of a kernel of this series (`6.1`, `7.2`, or `7` for its newest), in the order of preference:
 * since 6.19 the image is in linux-binary-*, and linux-image-* only names the others.
 */
export function imagePatterns(series: string, flavour: Flavour): readonly RegExp[] {
  const [major, minor] = series.split('.');
  const numbers = minor === undefined ? `${major}\\.\\d+` : `${major}\\.${minor}`;
  const suffix = flavour === 'cloud' ? '-cloud-amd64' : '-amd64';
  return ['binary', 'image'].map(
    kind => new RegExp(`^linux-${kind}-${numbers}(?:\\.\\d+)*(?:-\\d+|\\+deb\\d+)${suffix}$`),
  );
}

/** The package of a kernel's modules; from that of its image, if that has them itself. */
export function modulesPackage(image: string): string {
  return image.replace(/^linux-binary-/, 'linux-modules-');
}

/** The packages of its headers: those of its flavour, and those of all flavours. */
export function headersPackages(image: string): readonly [string, string] {
  const own = image.replace(/^linux-(binary|image)-/, 'linux-headers-');
  return [own, own.replace(/(-cloud)?-amd64$/, '-common')];
}

export function isSeries(text: string): boolean {
  return /^\d{1,2}(\.\d{1,3})?$/.test(text);
}
