"use strict";
// Incomplete beta function by its continued fraction (DLMF 8.17.22), inverted by bisection.
const statistics = (() => {
  const logGamma = (z) => {
    if (z < 8) return logGamma(z + 1) - Math.log(z);
    const r = 1 / (z * z);
    return (z - 0.5) * Math.log(z) - z + 0.5 * Math.log(2 * Math.PI)
      + (1 / 12 - r * (1 / 360 - r * (1 / 1260 - r / 1680))) / z;
  };
  const beta = (a, b, x) => {
    if (x <= 0) return 0;
    if (x >= 1) return 1;
    if (x > (a + 1) / (a + b + 2)) return 1 - beta(b, a, 1 - x);
    const tiny = 1e-300;
    const front = Math.exp(a * Math.log(x) + b * Math.log1p(-x) + logGamma(a + b) - logGamma(a) - logGamma(b)) / a;
    let f = 1, c = 1, d = 0;
    for (let i = 0; i <= 500; i++) {
      const m = Math.floor(i / 2);
      const term = i === 0 ? 1
        : i % 2 ? -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        : m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
      d = 1 / (Math.abs(1 + term * d) < tiny ? tiny : 1 + term * d);
      c = Math.abs(1 + term / c) < tiny ? tiny : 1 + term / c;
      f *= c * d;
      if (Math.abs(1 - c * d) < 1e-12) break;
    }
    return front * (f - 1);
  };
  const quantile = (a, b, p) => {
    let low = 0, high = 1;
    for (let i = 0; i < 60; i++) {
      const middle = (low + high) / 2;
      if (beta(a, b, middle) < p) low = middle; else high = middle;
    }
    return (low + high) / 2;
  };
  const interval = (k, n, level) => {
    const tail = (1 - level) / 2;
    return [k > 0 ? quantile(k, n - k + 1, tail) : 0, k < n ? quantile(k + 1, n - k, 1 - tail) : 1];
  };
  return { beta, interval };
})();
