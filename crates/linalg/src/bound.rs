//! How few bytes any algorithm must move between storage and a memory of a given size.

/// Least bytes that a classical product of an m x k and a k x n matrix moves with `memory_bytes` of memory.
///
/// Leading term of the tight bound by Smith, Lowery, Langou and van de Geijn (arXiv 1702.02017), as in COSMA (arXiv
/// 1908.09606); never less than reading both inputs and writing the output once.
pub fn bytes_bound(m: u64, n: u64, k: u64, itemsize: u64, memory_bytes: u64) -> f64 {
    let (m, n, k) = (m as f64, n as f64, k as f64);
    let capacity = (memory_bytes as f64 / itemsize as f64).max(1.0);
    let streamed = 2.0 * m * n * k / capacity.sqrt() + m * n;
    let once = m * k + k * n + m * n;
    itemsize as f64 * streamed.max(once)
}

/// Least bytes that a classical product of an n x k matrix with its own transpose moves, with `memory_bytes` of memory.
///
/// Of each pair of equal elements one is computed: n²k / sqrt(2S) elements are read at least (Beaumont, Eyraud-Dubois, Vérité and
/// Langou, arXiv 2202.10217, for SYRK), where S elements fit the memory; never less than the input once. Both halves of the
/// output are written.
pub fn bytes_bound_symmetric(n: u64, k: u64, itemsize: u64, memory_bytes: u64) -> f64 {
    let (n, k) = (n as f64, k as f64);
    let capacity = (memory_bytes as f64 / itemsize as f64).max(1.0);
    let streamed = n * n * k / (2.0 * capacity).sqrt();
    itemsize as f64 * (streamed.max(n * k) + n * n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_ample_memory_everything_moves_once() {
        assert_eq!(
            bytes_bound(100, 200, 300, 8, 1 << 40),
            8.0 * (100.0 * 300.0 + 300.0 * 200.0 + 100.0 * 200.0)
        );
    }

    #[test]
    fn a_symmetric_product_reads_its_input_once_or_a_share_of_what_a_general_one_does() {
        assert_eq!(
            bytes_bound_symmetric(100, 300, 8, 1 << 40),
            8.0 * (100.0 * 300.0 + 100.0 * 100.0)
        );
        let n = 1 << 14;
        let output = 8.0 * (n as f64) * (n as f64);
        let general = bytes_bound(n, n, n, 8, 1 << 24) - output;
        let symmetric = bytes_bound_symmetric(n, n, 8, 1 << 24) - output;
        assert!((general / symmetric - 8f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_quarter_of_the_memory_doubles_the_streamed_part() {
        let n = 1 << 14;
        let output = 8.0 * (n as f64) * (n as f64);
        let large = bytes_bound(n, n, n, 8, 1 << 26) - output;
        let small = bytes_bound(n, n, n, 8, 1 << 24) - output;
        assert!((small / large - 2.0).abs() < 1e-12);
    }
}
