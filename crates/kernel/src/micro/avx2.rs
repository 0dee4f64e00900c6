//! AVX2 with FMA: 4 rows of 3 vectors, 12 of the 16 registers for sums, 3 for `B` and one for `A`.

use super::MicroKernel;
use super::tile::tile_fn;

pub(super) const F64: MicroKernel<f64> = MicroKernel {
    mr: 4,
    nr: 12,
    tile: tile_f64::<3>,
    narrow: Some([tile_f64::<1>, tile_f64::<2>]),
    transpose: None,
};
pub(super) const F32: MicroKernel<f32> = MicroKernel {
    mr: 4,
    nr: 24,
    tile: tile_f32::<3>,
    narrow: Some([tile_f32::<1>, tile_f32::<2>]),
    transpose: None,
};

tile_fn!(
    tile_f64, f64, "avx2,fma", rows 4, vectors 3 x 4,
    _mm256_setzero_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_set1_pd, _mm256_fmadd_pd, _mm256_add_pd,
    _mm256_sub_pd
);

tile_fn!(
    tile_f32, f32, "avx2,fma", rows 4, vectors 3 x 8,
    _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_add_ps,
    _mm256_sub_ps
);
