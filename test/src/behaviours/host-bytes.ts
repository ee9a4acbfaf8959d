/**
 * What a host must be handed, byte for byte, laid out by hand from vsva.md section 3 (not by the project's own uapi package, so
 * that a wrong offset there shows).
 */
export const PASID_REQUEST = 0x3b7a;
export const BIND = 0x3b7b;
export const CACHE_INVALIDATE = 0x3b7c;

/** One ioctl as the host got it. */
export interface HostCall {
  readonly request: number;
  /** Hexadecimal, so that a difference can be read. */
  readonly bytes: string;
}

function call(request: number, size: number, fill: (view: DataView) => void): HostCall {
  const bytes = new Uint8Array(size);
  fill(new DataView(bytes.buffer));
  return { request, bytes: Buffer.from(bytes).toString('hex') };
}

function u64(view: DataView, at: number, value: number): void {
  view.setBigUint64(at, BigInt(value), true);
}

/** struct vfio_iommu_type1_pasid_request, ALLOC of [min, max]. */
export function pasidAlloc(min = 1, max = 0xfffff): HostCall {
  return call(PASID_REQUEST, 20, view => {
    view.setUint32(0, 20, true);
    view.setUint32(4, 1, true);
    view.setUint32(8, min, true);
    view.setUint32(12, max, true);
  });
}

export function pasidFree(pasid: number): HostCall {
  return call(PASID_REQUEST, 20, view => {
    view.setUint32(0, 20, true);
    view.setUint32(4, 2, true);
    view.setUint32(8, pasid, true);
  });
}

export interface BoundStage1 {
  readonly root: number;
  readonly width?: number;
  readonly flags?: number;
  readonly pat?: number;
  readonly emt?: number;
}

/** struct vfio_iommu_type1_bind with struct iommu_gpasid_bind_data: BIND_GUEST_PGTBL. */
export function bind(pasid: number, stage1: BoundStage1): HostCall {
  return call(BIND, 80, view => {
    bindHeader(view, pasid, 1);
    u64(view, 8 + 16, stage1.root);
    view.setUint32(8 + 40, stage1.width ?? 48, true);
    u64(view, 8 + 56, stage1.flags ?? 0);
    view.setUint32(8 + 64, stage1.pat ?? 0, true);
    view.setUint32(8 + 68, stage1.emt ?? 0, true);
  });
}

/** The same with UNBIND_GUEST_PGTBL: no root, no width, no attributes. */
export function unbind(pasid: number): HostCall {
  return call(BIND, 80, view => bindHeader(view, pasid, 2));
}

function bindHeader(view: DataView, pasid: number, flags: number): void {
  view.setUint32(0, 80, true);
  view.setUint32(4, flags, true);
  view.setUint32(8, 1, true);
  view.setUint32(8 + 4, 1, true);
  u64(view, 8 + 8, 1);
  u64(view, 8 + 24, pasid);
  u64(view, 8 + 32, pasid);
}

/** struct vfio_iommu_type1_cache_invalidate of all that is cached of a PASID. `argsz` is 104 under quirk Q7. */
export function flushPasid(pasid: number, argsz = 56): HostCall {
  return call(CACHE_INVALIDATE, argsz, view => {
    flushHeader(view, argsz, 1);
    view.setUint32(16, 1, true);
    u64(view, 24, pasid);
  });
}

/** The same of one granule of `granule` bytes at `address`. */
export function flushPages(pasid: number, address: number, granule: number, leaf = false): HostCall {
  return call(CACHE_INVALIDATE, 56, view => {
    flushHeader(view, 56, 2);
    view.setUint32(16, leaf ? 5 : 1, true);
    u64(view, 24, pasid);
    u64(view, 32, address);
    u64(view, 40, granule);
    u64(view, 48, 1);
  });
}

function flushHeader(view: DataView, argsz: number, granularity: number): void {
  view.setUint32(0, argsz, true);
  view.setUint32(8, 1, true);
  view.setUint8(12, 1);
  view.setUint8(13, granularity);
}
