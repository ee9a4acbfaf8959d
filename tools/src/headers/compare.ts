/** Holds the declarations of @remora/uapi against what a C compiler says. */
import type { StructType } from '@remora/uapi';
import { type Facts, type Origin, ORIGINS, type Place, type StructFacts } from './facts.js';
import { structMembers } from './members.js';

export interface Difference {
  /** `vfio_iommu_type1_dma_map.vaddr`, or the name of a constant. */
  readonly where: string;
  readonly declared: string;
  readonly actual: string;
}

export interface Declarations {
  readonly structs: readonly StructType[];
  readonly constants: Readonly<Record<Origin, Readonly<Record<string, number>>>>;
}

/**
 * Sizes that newer kernel headers give a structure which a caller's argsz keeps compatible. vfio_device_info: the hole at the end
 * has become a member.
 */
const LATER_SIZES: Readonly<Record<string, number>> = { vfio_device_info: 24 };

/** What differs, in the order of the declarations. What was not probed (upstream structures without headers) is left alone. */
export function compareDeclarations(declared: Declarations, facts: Facts): Difference[] {
  const withLinux = facts.kernelHeaders !== undefined;
  const structs = declared.structs.flatMap(type => {
    const actual = facts.structs[type.name];
    if (actual !== undefined) return compareStruct(type, actual);
    if (!withLinux && originOf(type) === 'linux') return [];
    return [{ where: type.name, declared: `${type.size} bytes`, actual: 'not known to the probe' }];
  });
  const names = new Set(declared.structs.map(type => type.name));
  const missing = Object.entries(facts.structs)
    .filter(([name]) => !names.has(name))
    .map(([where, { size }]) => ({ where, declared: 'nothing', actual: `${size} bytes` }));
  const origins = ORIGINS.filter(origin => withLinux || origin !== 'linux');
  const constants = origins.flatMap(origin => compareConstants(declared.constants[origin], facts.constants[origin]));
  return [...structs, ...missing, ...constants];
}

/** Members that the C source gives a structure and the declaration does not. */
export function compareMembers(structs: readonly StructType[], facts: Facts, preprocessed: string): Difference[] {
  return structs
    .filter(type => type.name in facts.structs)
    .flatMap(type =>
      (structMembers(preprocessed, type.name) ?? [])
        .filter(member => !(member in type.specs))
        .map(member => ({ where: `${type.name}.${member}`, declared: 'nothing', actual: 'a member' })),
    );
}

function originOf(type: StructType): Origin {
  return type.source === 'linux/vfio.h' && !/_iommufd(_pt)?$|_dma_(buf|range)$/.test(type.name) ? 'linux' : 'rfc';
}

function compareStruct(type: StructType, actual: StructFacts): Difference[] {
  const found: Difference[] = [];
  if (type.size !== actual.size && LATER_SIZES[type.name] !== actual.size) {
    found.push({ where: type.name, declared: `${type.size} bytes`, actual: `${actual.size} bytes` });
  }
  const leaves = new Map(type.leaves().map(leaf => [leaf.path, [leaf.offset, leaf.size] as const]));
  for (const path of new Set([...leaves.keys(), ...Object.keys(actual.fields)])) {
    const mine = placeText(leaves.get(path));
    const theirs = placeText(actual.fields[path]);
    if (mine !== theirs) found.push({ where: `${type.name}.${path}`, declared: mine, actual: theirs });
  }
  return found;
}

function placeText(place: Place | undefined): string {
  return place === undefined ? 'nothing' : `${place[1]} bytes at ${place[0]}`;
}

function compareConstants(
  declared: Readonly<Record<string, number>>,
  actual: Readonly<Record<string, number>>,
): Difference[] {
  const names = new Set([...Object.keys(declared), ...Object.keys(actual)]);
  return [...names]
    .filter(name => declared[name] !== actual[name])
    .map(where => ({ where, declared: numberText(declared[where]), actual: numberText(actual[where]) }));
}

function numberText(value: number | undefined): string {
  return value === undefined ? 'nothing' : `0x${value.toString(16)}`;
}
