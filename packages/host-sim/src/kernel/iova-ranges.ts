/** Which IOVAs a container may map: what the IOMMU translates, without what the platform reserves. */
import type { Kernel } from './kernel.js';

/** Page frames [startFrame, endFrame). */
export interface IovaRange {
  readonly startFrame: number;
  readonly endFrame: number;
}

/** Ascending; none is empty. */
export function iovaRanges({ iommu, knobs }: Kernel): IovaRange[] {
  const width = Math.min(iommu!.driver.addressWidth, knobs.iovaWidth);
  const reserved = [...knobs.reservedIova].sort((a, b) => a.startFrame - b.startFrame);
  const ranges: IovaRange[] = [];
  let startFrame = 0;
  for (const hole of [...reserved, { startFrame: 2 ** (width - 12), endFrame: Infinity }]) {
    const endFrame = Math.min(hole.startFrame, 2 ** (width - 12));
    if (startFrame < endFrame) ranges.push({ startFrame, endFrame });
    startFrame = Math.max(startFrame, hole.endFrame);
  }
  return ranges;
}
