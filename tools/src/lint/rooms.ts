/**
 * The house's layer table: which room may import which (design.md, Rooms). Data, so that the rule below it and its tests say the
 * same thing. A room imports strictly downwards; one `hw/*` never imports another.
 */
export interface Room {
  /** Folder, from the root of the repository. */
  readonly folder: string;
  /** Rooms that it may import, by package name. */
  readonly imports: readonly string[];
  /** Packages from outside that it may import. Node's own modules are listed as `node:*`. */
  readonly outside: readonly string[];
}

const L0 = ['@remora/bits'];
const L1 = [...L0, '@remora/core', '@remora/uapi'];
const L2 = [...L1, '@remora/iommu'];
const L3 = [...L2, '@remora/pci', '@remora/host'];
const MODELS = [
  '@hw/intel-iommu',
  '@hw/vfio-pci',
  '@hw/q35',
  '@hw/dma-engine',
  '@hw/edu',
  '@hw/iommu-testdev',
  '@hw/nvme',
  '@hw/dsa',
];
/** Let outside programs hold a machine. */
const SERVERS = ['@remora/qmp', '@remora/qtest', '@remora/vfio-user', '@remora/host-linux'];
const L5 = [...L3, '@remora/host-sim', '@remora/machine'];

export const ROOMS: Readonly<Record<string, Room>> = {
  '@remora/bits': { folder: 'packages/bits', imports: [], outside: [] },
  '@remora/core': {
    folder: 'packages/core',
    imports: L0,
    outside: ['inversify', 'reflect-metadata', 'debug', 'node:util', 'node:async_hooks'],
  },
  '@remora/uapi': { folder: 'packages/uapi', imports: L0, outside: [] },
  '@remora/iommu': { folder: 'packages/iommu', imports: L1, outside: [] },
  '@remora/pci': { folder: 'packages/pci', imports: L2, outside: [] },
  '@remora/host': { folder: 'packages/host', imports: L2, outside: [] },
  '@remora/host-linux': {
    folder: 'packages/host-linux',
    imports: [...L2, '@remora/host'],
    // koffi is loaded by name when it is needed, and may be absent.
    outside: ['node:fs', 'node:module'],
  },
  '@remora/host-sim': { folder: 'packages/host-sim', imports: L3, outside: [] },
  // A client is a stream of Node's.
  '@remora/qmp': { folder: 'packages/qmp', imports: L3, outside: ['node:stream'] },
  '@remora/testing': { folder: 'packages/testing', imports: L3, outside: ['ava'] },
  '@remora/qtest': { folder: 'packages/qtest', imports: L3, outside: ['node:fs', 'node:net', 'node:stream'] },
  '@remora/vfio-user': {
    folder: 'packages/vfio-user',
    imports: [...L3, '@remora/host-linux'],
    outside: ['node:fs', 'node:net', 'node:path', 'node:stream'],
  },
  '@remora/machine': {
    folder: 'packages/machine',
    imports: [...L3, '@remora/host-sim'],
    // State files are compressed and have a checksum.
    outside: ['inversify', 'reflect-metadata', 'node:crypto', 'node:fs', 'node:zlib'],
  },
  '@hw/intel-iommu': { folder: 'hw/intel-iommu', imports: L3, outside: [] },
  '@hw/vfio-pci': { folder: 'hw/vfio-pci', imports: L3, outside: [] },
  '@hw/q35': { folder: 'hw/q35', imports: L3, outside: [] },
  '@hw/dma-engine': { folder: 'hw/dma-engine', imports: L3, outside: [] },
  '@hw/dsa': { folder: 'hw/dsa', imports: L3, outside: [] },
  '@hw/edu': { folder: 'hw/edu', imports: L3, outside: [] },
  '@hw/iommu-testdev': { folder: 'hw/iommu-testdev', imports: L3, outside: [] },
  // A namespace may be in a file.
  '@hw/nvme': { folder: 'hw/nvme', imports: L3, outside: ['node:fs'] },
  '@remora/machines': { folder: 'machines', imports: [...L5, ...MODELS, '@remora/testing'], outside: [] },
  '@remora/tools': {
    folder: 'tools',
    imports: [...L5, ...SERVERS, ...MODELS, '@remora/testing', '@remora/machines'],
    outside: ['*', 'node:*'],
  },
  '@remora/test': {
    folder: 'test',
    imports: [...L5, ...SERVERS, ...MODELS, '@remora/testing', '@remora/machines', '@remora/tools'],
    outside: ['*', 'node:*'],
  },
};

/** Modules on hot paths: no BigInt in them (performance.md). Folders end in `/`. */
export const HOT_MODULES: readonly string[] = [
  'packages/core/src/memory/',
  'packages/iommu/src/iotlb',
  'packages/iommu/src/host-iommu-context.ts',
  'packages/iommu/src/stage1.ts',
  'packages/iommu/src/invalidation.ts',
  'hw/intel-iommu/src/device/',
];

/** The package name of the room that holds `file` (a path from the root with forward slashes); undefined outside all rooms. */
export function roomOf(file: string): string | undefined {
  return Object.entries(ROOMS).find(([, room]) => file.startsWith(`${room.folder}/`))?.[0];
}

export function isTest(file: string): boolean {
  return file.endsWith('.test.ts') || file.endsWith('.test.helper.ts') || file.startsWith('test/');
}
