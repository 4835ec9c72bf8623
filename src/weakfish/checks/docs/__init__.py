"""Great Expectations' own Data Docs, as pages that need no network: styled from assets that lie beside them."""
