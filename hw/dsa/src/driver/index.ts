export * from './descriptors.js';
export * from './dsa-driver.js';
